"""ALiBi, attention with linear biases: a score falls with the distance, with a slope per head.

It has no table and learns nothing, so texts may have any length.
Source: Press et al. 2022, https://arxiv.org/abs/2108.12409, section 3; slopes for a number of heads that is not a
power of two as in the authors' code
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from nanotx.nn.position.base import Position, PositionalEncoding
from nanotx.nn.shapes import KeyPositions, Positions


@Position.register("alibi")
@dataclass(frozen=True, kw_only=True)
class Alibi(Position):
    """A linear penalty on distance."""

    adds_bias: ClassVar[bool] = True
    relative: ClassVar[bool] = True

    def build(self, dim: int, heads: int, context: int) -> PositionalEncoding:
        return AlibiPosition(heads)


class AlibiPosition(PositionalEncoding):
    """A bias of zero at the query's own position, lower by the slope of the head at each step back."""

    slopes: Tensor

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.register_buffer("slopes", torch.tensor(slopes(heads)), persistent=False)

    def bias(self, q_pos: Positions, k_pos: KeyPositions) -> Float[Tensor, "h t s"]:
        distance = rearrange(q_pos, "t -> t 1") - rearrange(k_pos, "s -> 1 s")
        return -rearrange(self.slopes, "h -> h 1 1") * distance


def slopes(heads: int) -> list[float]:
    """Return the slope of each head: powers of 2 with evenly spaced exponents, from 2^(-8 / heads) down to 2^-8.

    If `heads` is not a power of two: the slopes of the next lower one, then every other slope of twice as many.
    """
    whole = 2 ** (heads.bit_length() - 1)
    even = [2.0 ** (-8 * (head + 1) / whole) for head in range(whole)]
    between = [2.0 ** (-4 * (head + 1) / whole) for head in range(0, 2 * whole, 2)]
    return even + between[: heads - whole]
