"""Warmup, stable, decay (WSD): the learning rate rises linearly, stays, and falls linearly over the last part of a run.

Source: Hägele et al. 2024, https://arxiv.org/abs/2405.18392, section 2, with its linear cooldown
"""

from dataclasses import dataclass

from nanotx.config.schema import check_min
from nanotx.errors import ConfigError
from nanotx.optim.schedules.base import Schedule


@Schedule.register("wsd")
@dataclass(frozen=True, kw_only=True)
class Wsd(Schedule):
    """Linear warmup, a constant rate, and a linear decay to `final`."""

    warmup: int = 30  # number of steps over which the learning rate rises linearly
    decay: float = 0.5  # fraction of the run, at its end, over which the learning rate falls
    final: float = 0.0  # factor of the learning rate at the end of the run

    def __post_init__(self) -> None:
        check_min(self, 0, "warmup")
        for name in ("decay", "final"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name}: expected a number from 0 to 1, got {getattr(self, name)!r}.")

    def factor(self, step: int, steps: int) -> float:
        rise = (step + 1) / (self.warmup + 1)
        fall = (steps - step) / (self.decay * steps) if self.decay * steps else float(step < steps)
        level = max(0.0, min(1.0, fall))
        return min(1.0, rise) * (self.final + (1 - self.final) * level)
