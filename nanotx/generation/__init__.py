"""Generation: sample from a model, one text or many, with stop sequences or a draft model."""

from nanotx.generation.engine import generate
from nanotx.generation.sampler import Sampling
from nanotx.generation.text import Completion, Generation

__all__ = ["Completion", "Generation", "Sampling", "generate"]
