"""A hidden layer in two halves: one, through SiLU, gates the other.

Source: Shazeer 2020, https://arxiv.org/abs/2002.05202, equation 6
"""

from dataclasses import dataclass

from einops import rearrange
from torch import nn
from torch.nn import functional as F

from nanotx.config import at_least
from nanotx.ffn import Ffn
from nanotx.linear import Linear
from nanotx.shapes import Stream


@Ffn.register("swiglu")
@dataclass(frozen=True, kw_only=True)
class SwiGlu(Ffn):
    """A hidden layer gated by its twin."""

    width: int | None = None  # of the hidden layer; None is 8/3 * dim rounded up to a multiple of 8
    bias: bool = False  # in both maps

    def __post_init__(self) -> None:
        at_least(self, 1, "width")

    def build(self, dim: int) -> nn.Module:
        return SwiGluFfn(self, dim)


class SwiGluFfn(nn.Module):
    """As many weights as an `mlp` of four times the width."""

    def __init__(self, config: SwiGlu, dim: int) -> None:
        super().__init__()
        width = -(-dim // 3) * 8 if config.width is None else config.width
        self.to_hidden = Linear(dim, 2 * width, bias=config.bias)
        self.to_out = Linear(width, dim, bias=config.bias)

    def forward(self, x: Stream) -> Stream:
        gate, hidden = rearrange(self.to_hidden(x), "b t (two f) -> two b t f", two=2)
        return self.to_out(F.silu(gate) * hidden)
