"""Rotary position with position interpolation: positions are divided by a factor, to the angles seen in training.

No angle is new to the model, but neighbouring positions are harder to tell apart.
Source: Chen et al. 2023, https://arxiv.org/abs/2306.15595, equation 4, where L' / L is the factor
"""

from dataclasses import dataclass
from typing import ClassVar

from nanotx.config.schema import check_max, check_min
from nanotx.nn.position.base import Position, PositionalEncoding
from nanotx.nn.position.rope_base import RotaryPosition, rates


@Position.register("rope_linear")
@dataclass(frozen=True, kw_only=True)
class RopeLinear(Position):
    """Rope with each position divided by a factor."""

    relative: ClassVar[bool] = True
    rotates: ClassVar[bool] = True

    theta: float = 10_000.0  # base of the frequencies, as in rope
    factor: float = 2.0  # length of texts relative to the training with rope

    def __post_init__(self) -> None:
        check_min(self, 1, "theta", "factor")
        check_max(self, 1_000_000, "factor")

    def build(self, dim: int, heads: int, context: int) -> PositionalEncoding:
        return RotaryPosition(rates(self.part, self.theta, dim, heads) / self.factor)
