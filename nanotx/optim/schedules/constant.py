"""A learning rate that never changes."""

from dataclasses import dataclass

from nanotx.optim.schedules.base import Schedule


@Schedule.register("constant")
@dataclass(frozen=True, kw_only=True)
class Constant(Schedule):
    """The learning rate of the optimizer, unchanged."""

    def factor(self, step: int, steps: int) -> float:
        return 1.0
