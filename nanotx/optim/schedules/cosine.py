"""A learning rate that rises in a line, then falls along half a cosine.

Source: Loshchilov and Hutter 2016, https://arxiv.org/abs/1608.03983, equation 5, without restarts
"""

import math
from dataclasses import dataclass

from nanotx.config.schema import check_min
from nanotx.errors import ConfigError
from nanotx.optim.schedules.base import Schedule


@Schedule.register("cosine")
@dataclass(frozen=True, kw_only=True)
class Cosine(Schedule):
    """Linear warmup over `warmup` steps, then a cosine down to `final`."""

    warmup: int = 100  # number of steps over which the learning rate rises linearly
    final: float = 0.1  # factor of the learning rate at the end of the run

    def __post_init__(self) -> None:
        check_min(self, 0, "warmup")
        if not 0 <= self.final <= 1:
            raise ConfigError(f"final: expected a factor from 0 to 1, got {self.final!r}.")

    def factor(self, step: int, steps: int) -> float:
        if step < self.warmup:
            return (step + 1) / (self.warmup + 1)
        done = min(1.0, (step - self.warmup) / max(1, steps - self.warmup))
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * done)) / 2
