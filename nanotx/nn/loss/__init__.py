"""Losses: what training minimises."""

from nanotx.nn.loss.base import Head, Loss, LossModule

__all__ = ["Head", "Loss", "LossModule"]
