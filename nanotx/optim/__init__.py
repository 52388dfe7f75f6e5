"""Optimizers and learning-rate schedules."""

from nanotx.optim.base import Named, Optimizer

__all__ = ["Named", "Optimizer"]
