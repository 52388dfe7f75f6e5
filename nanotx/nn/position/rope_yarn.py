"""Rotary position, each pair slowed as far as it can bear, and the scores a little larger.

YaRN: a pair that has turned many times within the length that the model learned with tells neighbours apart, and is
left alone; one that has not turned once there is slowed by the factor, so that it meets no new angle; those between
are slowed in part. Softmax over more keys is flatter, which larger scores make up for.
Source: Peng et al. 2023, https://arxiv.org/abs/2309.00071, section 3.2 (definition 2, with the bounds given there for
Llama) and section 3.4. The ramp runs over turns, as in the paper, where published code has it run over the axes' index.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from nanotx.config.schema import check_max, check_min
from nanotx.nn.position.base import Position, PositionalEncoding
from nanotx.nn.position.rotary import RotaryPosition, rates

SLOW, FAST = 1.0, 32.0
"""Turns within the original length: up to the first a pair is slowed wholly, from the second on not at all."""


@Position.register("rope_yarn")
@dataclass(frozen=True, kw_only=True)
class RopeYarn(Position):
    """Rope, each pair slowed by up to a factor, and scores sharpened."""

    relative: ClassVar[bool] = True

    theta: float = 10_000.0  # as of rope
    factor: float = 2.0  # how many times longer texts are than those that the model learned with as rope
    original: int | None = None  # length of those, in tokens; without it the context divided by the factor

    def __post_init__(self) -> None:
        check_min(self, 1, "theta", "factor", "original")
        check_max(self, 1_000_000, "factor")

    def build(self, dim: int, heads: int, context: int) -> PositionalEncoding:
        rate = rates(self.part, self.theta, dim, heads)
        turns = rate * (self.original or context / self.factor) / (2 * math.pi)
        kept = ((turns - SLOW) / (FAST - SLOW)).clamp(0, 1)
        return RotaryPosition(
            (1 - kept) * rate / self.factor + kept * rate, attention_scale=0.1 * math.log(self.factor) + 1
        )
