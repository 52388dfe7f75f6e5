"""Optimizers and learning-rate schedules."""

from nanotx.optim.base import Named, Optimizer
from nanotx.optim.groups import ParamGroup

__all__ = ["Named", "Optimizer", "ParamGroup"]
