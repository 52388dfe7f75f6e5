"""Rotary position embedding: each pair of channels of a head is rotated by an angle proportional to the position.

The score of a query and a key then depends only on their distance.
Source: Su et al. 2021, https://arxiv.org/abs/2104.09864, equation 34. The paper pairs neighbouring channels; here a
channel is paired with the one half a head away, as in GPT-NeoX and Llama.
"""

from dataclasses import dataclass
from typing import ClassVar

from nanotx.config.schema import check_min
from nanotx.nn.position.base import Position, PositionalEncoding
from nanotx.nn.position.rope_base import RotaryPosition, rates


@Position.register("rope")
@dataclass(frozen=True, kw_only=True)
class Rope(Position):
    """Queries and keys rotated by their position."""

    relative: ClassVar[bool] = True
    rotates: ClassVar[bool] = True

    theta: float = 10_000.0  # base of the frequencies; the slowest pair has a period of about 2 pi theta positions

    def __post_init__(self) -> None:
        check_min(self, 1, "theta")

    def build(self, dim: int, heads: int, context: int) -> PositionalEncoding:
        return RotaryPosition(rates(self.part, self.theta, dim, heads))
