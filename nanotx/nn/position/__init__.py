"""Positions: how a model knows where in the text a token is."""

from nanotx.nn.position.base import NOWHERE, Position, Positioning

__all__ = ["NOWHERE", "Position", "Positioning"]
