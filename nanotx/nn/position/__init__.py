"""Positional encodings: how a model knows where in the text a token is."""

from nanotx.nn.position.base import NO_POSITION, Position, PositionalEncoding

__all__ = ["NO_POSITION", "Position", "PositionalEncoding"]
