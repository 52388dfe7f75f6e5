"""Schedules: how the learning rate changes over a run; a pure function of the step."""

from abc import ABC, abstractmethod

from nanotx.config.registry import Slot


class Schedule(Slot, ABC, slot="schedule", package="nanotx.optim.schedules", group="nanotx.schedules"):
    """The slot: a factor on the optimizer's learning rate for each step.

    `Trainer.optimizer_step` multiplies each parameter group's `base_lr` by it.
    """

    @abstractmethod
    def factor(self, step: int, steps: int) -> float:
        """Return the factor for a step, counted from 0, of a run of so many steps."""
