"""A learning rate that rises in a line, stays, and falls in a line: how long the fall takes is a share of the run.

Source: Hägele et al. 2024, https://arxiv.org/abs/2405.18392, section 2, with a linear cooldown
"""

from dataclasses import dataclass

from nanotx.config.schema import at_least
from nanotx.errors import ConfigError
from nanotx.optim.schedules.base import Schedule


@Schedule.register("trapezoid")
@dataclass(frozen=True, kw_only=True)
class Trapezoid(Schedule):
    """Up over `warmup` steps, level, down to `final` over the last `cooldown` of the run."""

    warmup: int = 30  # steps
    cooldown: float = 0.5  # the share of the run, at its end, in which it falls
    final: float = 0.0  # the factor at the end

    def __post_init__(self) -> None:
        at_least(self, 0, "warmup")
        for name in ("cooldown", "final"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name}: expected a number from 0 to 1, got {getattr(self, name)!r}.")

    def factor(self, step: int, steps: int) -> float:
        rise = (step + 1) / (self.warmup + 1)
        fall = (steps - step) / (self.cooldown * steps) if self.cooldown * steps else float(step < steps)
        level = max(0.0, min(1.0, fall))
        return min(1.0, rise) * (self.final + (1 - self.final) * level)
