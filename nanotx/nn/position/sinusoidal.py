"""Sinusoidal encoding: fixed sines and cosines of many wavelengths, added to the embedded token.

Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.5. The paper interleaves sines and
cosines; here the first half of the width holds the sines: the same function up to the order of the channels.
"""

from dataclasses import dataclass

import torch
from einops import einsum, rearrange

from nanotx.config.schema import check_min
from nanotx.errors import ConfigError
from nanotx.hardware.memory import check_memory
from nanotx.nn.position.base import Position, PositionalEncoding, check_table
from nanotx.nn.shapes import Positions, Stream


@Position.register("sinusoidal")
@dataclass(frozen=True, kw_only=True)
class Sinusoidal(Position):
    """Fixed sines and cosines of many wavelengths."""

    theta: float = 10_000.0  # base of the frequencies; the longest wavelength is 2 pi theta positions

    def __post_init__(self) -> None:
        check_min(self, 1, "theta")

    def build(self, dim: int, heads: int, context: int) -> PositionalEncoding:
        if dim % 2:
            raise ConfigError(
                f"sinusoidal: dim={dim} is odd, and sines and cosines share it; try --model.dim {dim + 1}."
            )
        check_memory(f"sinusoidal: waves for context={context}", 4 * dim * context, "a shorter one, or rope")
        return SinusoidalPosition(self.theta, dim, context)


class SinusoidalPosition(PositionalEncoding):
    """A table with a row per position; a position beyond it raises an IndexError."""

    table: torch.Tensor

    def __init__(self, theta: float, dim: int, context: int) -> None:
        super().__init__()
        # computed on the CPU whatever the device: arithmetic on the meta device imports PyTorch's compiler
        frequency = theta ** -(torch.arange(0, dim, 2, device="cpu") / dim)
        angle = einsum(torch.arange(context, device="cpu").float(), frequency, "t, f -> t f")
        table = rearrange([angle.sin(), angle.cos()], "two t f -> t (two f)")
        self.register_buffer("table", table.to(torch.get_default_device()), persistent=False)

    def embed(self, x: Stream, positions: Positions) -> Stream:
        check_table(self, x, positions, *self.table.shape)
        return x + self.table[positions].type_as(x)
