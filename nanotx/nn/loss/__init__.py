"""Losses: what training minimises."""

from nanotx.nn.loss.base import Loss, LossModule
from nanotx.nn.loss.head import Head

__all__ = ["Head", "Loss", "LossModule"]
