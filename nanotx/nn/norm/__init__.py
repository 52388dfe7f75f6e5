"""Norms, which normalise each position of the stream."""

from nanotx.nn.norm.base import Norm

__all__ = ["Norm"]
