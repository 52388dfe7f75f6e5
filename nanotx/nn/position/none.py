"""No positional encoding: the model infers order from the causal mask alone.

Source: Haviv et al. 2022, https://arxiv.org/abs/2203.16634
"""

from dataclasses import dataclass
from typing import ClassVar

from nanotx.nn.position.base import Position, PositionalEncoding


@Position.register("none")
@dataclass(frozen=True, kw_only=True)
class NoPosition(Position):
    """No positional encoding."""

    relative: ClassVar[bool] = True

    def build(self, dim: int, heads: int, context: int) -> PositionalEncoding:
        return PositionalEncoding()
