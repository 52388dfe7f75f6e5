"""Rotary position with a larger base: the slowest pair is slowed by the factor, the fastest not at all.

NTK-aware interpolation: fast pairs still tell neighbours apart, and slow pairs have rotated no further at the end of a
longer text than at the end of a shorter one.
Source: bloc97, as definition 1 in Peng et al. 2023, https://arxiv.org/abs/2309.00071, section 3.1
"""

from dataclasses import dataclass
from typing import ClassVar

from nanotx.config.schema import check_max, check_min
from nanotx.nn.position.base import Position, PositionalEncoding
from nanotx.nn.position.rope_base import RotaryPosition, rates


@Position.register("rope_ntk")
@dataclass(frozen=True, kw_only=True)
class RopeNtk(Position):
    """Rope with slow pairs slowed by up to a factor, through its base."""

    relative: ClassVar[bool] = True
    rotates: ClassVar[bool] = True

    theta: float = 10_000.0  # base of the frequencies, times factor^(k / (k - 2)) for heads of width k
    factor: float = 2.0  # length of texts relative to the training with rope

    def __post_init__(self) -> None:
        check_min(self, 1, "theta", "factor")
        check_max(self, 1_000_000, "factor")

    def build(self, dim: int, heads: int, context: int) -> PositionalEncoding:
        return RotaryPosition(rates(self.part, self.grown_theta(dim, heads), dim, heads))

    def grown_theta(self, dim: int, heads: int) -> float:
        """Return the base of the frequencies: rope with it is this position."""
        width = dim // heads
        return self.theta * (self.factor ** (width / (width - 2)) if width > 2 else 1.0)  # a single pair is the fastest
