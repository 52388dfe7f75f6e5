"""Schedules: how the learning rate changes over a run; a pure function of the step."""

from nanotx.optim.schedules.base import Schedule

__all__ = ["Schedule"]
