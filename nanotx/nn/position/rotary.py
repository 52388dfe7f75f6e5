"""What rotary positions share: pairs of axes are turned, each by an angle that grows with the position at its own rate.

The parts differ in the rates. These are taken once, when the module is built: a compiler would otherwise work them out
anew for every head of every text, which took four times as long as the turning itself.
"""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from nanotx.config.schema import divisors
from nanotx.errors import ConfigError
from nanotx.nn.position.base import PositionalEncoding, Rotated
from nanotx.nn.shapes import Positions

Rates = Float[Tensor, " f"]
"""By how many radians each pair of axes is turned from one position to the next, the fastest pair first."""


class RotaryPosition(PositionalEncoding):
    """Turns heads by rates of its own, at any position; an axis is paired with the one half a head away."""

    rates: Tensor

    def __init__(self, rates: Rates, attention_scale: float = 1.0) -> None:
        super().__init__()
        self.attention_scale = attention_scale
        self.register_buffer("rates", rates, persistent=False)

    def rotate(self, q: Rotated, k: Rotated, positions: Positions) -> tuple[Rotated, Rotated]:
        angle = rearrange(positions, "t -> t 1") * self.rates
        cos, sin = self.attention_scale * angle.cos(), self.attention_scale * angle.sin()
        return _rotated(q, cos, sin), _rotated(k, cos, sin)


def rates(part: str, theta: float, dim: int, heads: int) -> Rates:
    """Those of the paper: 1 for the first pair of a head, and from pair to pair smaller, towards 1 / theta.

    Raises:
        ConfigError: a head has no pairs of axes.
    """
    width = dim // heads
    if width % 2:
        fit = [n for n in divisors(dim) if (dim // n) % 2 == 0]
        raise ConfigError(f"{part}: heads of width {width} have no pairs of axes; try heads from {fit}.")
    return theta ** -(torch.arange(0, width, 2, device="cpu") / width)


def _rotated(x: Rotated, cos: Float[Tensor, "t f"], sin: Float[Tensor, "t f"]) -> Rotated:
    left, right = rearrange(x, "... t (two f) -> two ... t f", two=2)
    return torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1).type_as(x)
