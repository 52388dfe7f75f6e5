"""Generation: sample from a model, one text or many, with stop sequences or a draft model."""

from nanotx.generation.sampler import Sampling, generate

__all__ = ["Sampling", "generate"]
