"""YaRN: rotary position with each pair slowed according to its frequency, and slightly larger scores.

A pair that rotates many times within the length of training tells neighbours apart, and is kept; one that rotates less
than once is slowed by the factor, so that it meets no new angle; those between are slowed in part. A softmax over
more keys is flatter, which larger scores compensate.
Source: Peng et al. 2023, https://arxiv.org/abs/2309.00071, section 3.2 (definition 2, with the bounds given there for
Llama) and section 3.4. The ramp is over rotations, as in the paper, not over channels as in published code.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from nanotx.config.schema import check_max, check_min
from nanotx.nn.position.base import Position, PositionalEncoding
from nanotx.nn.position.rope_base import RotaryPosition, rates

SLOW, FAST = 1.0, 32.0
"""Rotations within the original length: up to SLOW a pair is slowed fully, from FAST on not at all."""


@Position.register("rope_yarn")
@dataclass(frozen=True, kw_only=True)
class RopeYarn(Position):
    """Rope with each pair slowed by up to a factor, and sharper scores."""

    relative: ClassVar[bool] = True
    rotates: ClassVar[bool] = True

    theta: float = 10_000.0  # base of the frequencies, as in rope
    factor: float = 2.0  # length of texts relative to the training with rope
    original: int | None = None  # context of the training, in tokens; None is the context divided by the factor

    def __post_init__(self) -> None:
        check_min(self, 1, "theta", "factor", "original")
        check_max(self, 1_000_000, "factor")

    def build(self, dim: int, heads: int, context: int) -> PositionalEncoding:
        rate = rates(self.part, self.theta, dim, heads)
        turns = rate * (self.original or context / self.factor) / (2 * math.pi)
        unscaled = ((turns - SLOW) / (FAST - SLOW)).clamp(0, 1)
        return RotaryPosition(
            (1 - unscaled) * rate / self.factor + unscaled * rate, attention_scale=0.1 * math.log(self.factor) + 1
        )
