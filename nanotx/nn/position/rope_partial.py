"""Rotary position of the first channels of each head; the others carry no position.

A half of the rotated channels is paired with the other half.
Source: Black et al. 2022, GPT-NeoX-20B, https://arxiv.org/abs/2204.06745, section 2.1.1; Pythia has a quarter too
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from nanotx.config.schema import check_max, check_min
from nanotx.errors import ConfigError
from nanotx.nn.position.base import Position, PositionalEncoding, Rotated
from nanotx.nn.position.rope_base import Rates, RotaryPosition, rates
from nanotx.nn.shapes import Positions


@Position.register("rope_partial")
@dataclass(frozen=True, kw_only=True)
class RopePartial(Position):
    """Rope of a part of each head."""

    relative: ClassVar[bool] = True
    rotates: ClassVar[bool] = True

    theta: float = 10_000.0  # base of the frequencies, as in rope
    fraction: float = 0.25  # fraction of a head's channels that is rotated, rounded down to pairs; at least one pair

    def __post_init__(self) -> None:
        check_min(self, 1, "theta")
        check_min(self, 1 / 64, "fraction")
        check_max(self, 1, "fraction")

    @property
    def least_width(self) -> int:
        return math.ceil(2 / self.fraction)

    def rotated(self, width: int) -> int:
        """Return the number of channels that are rotated in a head of this width."""
        return max(2, int(width * self.fraction) // 2 * 2)

    def build(self, dim: int, heads: int, context: int) -> PositionalEncoding:
        width = dim // heads
        if width < 2:
            raise ConfigError(f"{self.part}: heads of width {width} have no pairs of channels; try a larger width.")
        rotated = self.rotated(width)
        return PartialRotaryPosition(rates(self.part, self.theta, heads * rotated, heads), width)


class PartialRotaryPosition(RotaryPosition):
    """Rotate the first channels of heads."""

    def __init__(self, rates: Rates, width: int) -> None:
        super().__init__(rates)
        self.width = width

    def rotate(self, q: Rotated, k: Rotated, positions: Positions) -> tuple[Rotated, Rotated]:
        self.check_width(q)
        size = 2 * len(self.rates)
        q_rotated, k_rotated = self.rotate_pairs(q[..., :size], k[..., :size], positions)
        return torch.cat([q_rotated, q[..., size:]], dim=-1), torch.cat([k_rotated, k[..., size:]], dim=-1)
