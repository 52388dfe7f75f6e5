"""Rotary positions: pairs of channels are rotated, each by an angle proportional to the position.

The parts differ in the frequencies. They are computed once, when the module is built: compiled code would otherwise
compute them for every head of every text, which took four times as long as the rotation itself.
"""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from nanotx.config.schema import divisors, nearest
from nanotx.errors import ConfigError
from nanotx.nn.position.base import PositionalEncoding, Rotated
from nanotx.nn.shapes import Positions

Rates = Float[Tensor, " f"]
"""Angle in radians by which each pair is rotated per position, the fastest pair first."""


class RotaryPosition(PositionalEncoding):
    """Rotate heads at any position; a channel is paired with the one half a head away."""

    rates: Tensor

    def __init__(self, rates: Rates, attention_scale: float = 1.0) -> None:
        super().__init__()
        self.attention_scale = attention_scale
        self.width = 2 * len(rates)  # of a head
        self.register_buffer("rates", rates, persistent=False)

    def rotate(self, q: Rotated, k: Rotated, positions: Positions) -> tuple[Rotated, Rotated]:
        self.check_width(q)
        return self.rotate_pairs(q, k, positions)

    def check_width(self, q: Rotated) -> None:
        """Raise ConfigError unless queries have the width of the heads that it was built for."""
        if q.shape[-1] != self.width:
            raise ConfigError(
                f"{type(self).__name__}: built for heads of width {self.width} (dim // heads), and those of the "
                f"attention have {q.shape[-1]}; build it with the attention's dim and heads."
            )

    def rotate_pairs(self, q: Rotated, k: Rotated, positions: Positions) -> tuple[Rotated, Rotated]:
        """Rotate channels, as many as there are in pairs."""
        angle = rearrange(positions, "t -> t 1") * self.rates
        cos, sin = self.attention_scale * angle.cos(), self.attention_scale * angle.sin()
        return _rotated(q, cos, sin), _rotated(k, cos, sin)


def rates(part: str, theta: float, dim: int, heads: int) -> Rates:
    """Return the frequencies of the paper: 1 for the first pair of a head, falling towards 1 / theta.

    They are rounded as in Llama's code and in transformers, whose weights we read and write: at position 2,000, another
    last bit of a frequency turns a pair by 1e-4 radians more.

    Raises:
        ConfigError: the width of a head is odd.
    """
    width = dim // heads
    if width % 2:
        fit = [n for n in divisors(dim) if (dim // n) % 2 == 0]
        some = (
            f"heads from {fit}, or another width; as flags, --attention.heads {nearest(heads, fit)} or" if fit else ""
        )
        raise ConfigError(
            f"{part}: heads of width {width} have no pairs of channels; try {some or 'an even width, as by'} "
            f"--model.dim {heads * (width + 1)}."
        )
    return 1.0 / theta ** (torch.arange(0, width, 2, device="cpu") / width)


def _rotated(x: Rotated, cos: Float[Tensor, "t f"], sin: Float[Tensor, "t f"]) -> Rotated:
    left, right = rearrange(x, "... t (two f) -> two ... t f", two=2)
    return torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1).type_as(x)
