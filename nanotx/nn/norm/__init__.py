"""Norms: bring each position of the stream to one scale."""

from nanotx.nn.norm.base import Norm

__all__ = ["Norm"]
