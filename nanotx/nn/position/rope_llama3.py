"""The rotary position of Llama 3.1 and later: slow pairs are slowed by a factor, fast ones are kept.

A pair that rotates many times within the length of training is kept; one that rotates less than once is slowed by the
factor, so that it meets no new angle; those between are slowed in part. It is `rope_yarn` with other bounds, and
scores as they are.
Source: `apply_scaling` of https://github.com/meta-llama/llama-models, models/llama3/model.py
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from nanotx.config.schema import check_max, check_min
from nanotx.nn.position.base import Position, PositionalEncoding
from nanotx.nn.position.rope_base import RotaryPosition, rates

SLOW, FAST = 1.0, 4.0
"""Rotations within the original length: up to SLOW a pair is slowed fully, from FAST on not at all."""


@Position.register("rope_llama3")
@dataclass(frozen=True, kw_only=True)
class RopeLlama3(Position):
    """Rope with slow pairs slowed by a factor."""

    relative: ClassVar[bool] = True
    rotates: ClassVar[bool] = True

    theta: float = 10_000.0  # base of the frequencies, as in rope
    factor: float = 8.0  # divisor of the frequencies of the slowest pairs
    original: int | None = None  # context of the first training, in tokens; None is the context divided by the factor

    def __post_init__(self) -> None:
        check_min(self, 1, "theta", "factor", "original")
        check_max(self, 1_000_000, "factor")

    def build(self, dim: int, heads: int, context: int) -> PositionalEncoding:
        rate = rates(self.part, self.theta, dim, heads)
        turns = (self.original or context / self.factor) / (2 * math.pi / rate)  # rounded as in the source
        kept = ((turns - SLOW) / (FAST - SLOW)).clamp(0, 1)
        return RotaryPosition((1 - kept) * rate / self.factor + kept * rate)
