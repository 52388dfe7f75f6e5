"""Rotary position: each pair of a head's axes is turned by an angle that grows with the position.

The score of a query and a key then depends on their distance alone.
Source: Su et al. 2021, https://arxiv.org/abs/2104.09864, equation 34. The paper pairs neighbouring axes; here an
axis is paired with the one half a head away, as in GPT-NeoX and Llama.
"""

from dataclasses import dataclass

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor

from nanotx.config import at_least, divisors
from nanotx.errors import ConfigError
from nanotx.position import Position, Positioning, Turned
from nanotx.shapes import Times


@Position.register("rope")
@dataclass(frozen=True, kw_only=True)
class Rope(Position):
    """Queries and keys turned by their position."""

    theta: float = 10_000.0  # the slowest pair turns once in about 2 pi theta positions

    def __post_init__(self) -> None:
        at_least(self, 1, "theta")

    def build(self, dim: int, heads: int, context: int) -> Positioning:
        if (dim // heads) % 2:
            fit = [n for n in divisors(dim) if (dim // n) % 2 == 0]
            raise ConfigError(f"rope: heads of width {dim // heads} have no pairs of axes; try heads from {fit}.")
        return RopePosition(self)


class RopePosition(Positioning):
    """Turns heads of any even width, at any position."""

    def __init__(self, config: Rope) -> None:
        super().__init__()
        self.config = config

    def turn(self, q: Turned, k: Turned, at: Times) -> tuple[Turned, Turned]:
        width = q.shape[-1]
        frequency = self.config.theta ** -(torch.arange(0, width, 2, device=q.device) / width)
        angle = einsum(at.float(), frequency, "t, f -> t f")
        cos, sin = angle.cos(), angle.sin()
        return _turned(q, cos, sin), _turned(k, cos, sin)


def _turned(x: Turned, cos: Float[Tensor, "t f"], sin: Float[Tensor, "t f"]) -> Turned:
    left, right = rearrange(x, "... t (two f) -> two ... t f", two=2)
    return torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1).type_as(x)
