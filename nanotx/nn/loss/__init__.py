"""Losses: what training minimises."""

from nanotx.nn.loss.base import Loss, LossModule
from nanotx.nn.loss.chunked_loss import Head

__all__ = ["Head", "Loss", "LossModule"]
