"""Two maps with a squared bend between them: zero below zero, and above it ever steeper.

Source: So et al. 2021, Primer, https://arxiv.org/abs/2109.08668
"""

from dataclasses import dataclass

from torch import nn
from torch.nn import functional as F

from nanotx.config.schema import at_least, at_most
from nanotx.nn.ffn.base import Ffn
from nanotx.nn.linear import Linear
from nanotx.nn.shapes import Stream


@Ffn.register("relu2")
@dataclass(frozen=True, kw_only=True)
class Relu2(Ffn):
    """Two maps with the square of a relu between them."""

    width: int | None = None  # of the hidden layer; None is 4 * dim
    bias: bool = False  # in both maps

    def __post_init__(self) -> None:
        at_least(self, 1, "width")
        at_most(self, 2**24, "width")

    def build(self, dim: int) -> nn.Module:
        return Relu2Ffn(self, dim)


class Relu2Ffn(nn.Module):
    """Wide, bent, squared, narrow."""

    def __init__(self, config: Relu2, dim: int) -> None:
        super().__init__()
        width = 4 * dim if config.width is None else config.width
        self.to_hidden = Linear(dim, width, bias=config.bias)
        self.to_out = Linear(width, dim, bias=config.bias)

    def forward(self, x: Stream) -> Stream:
        return self.to_out(F.relu(self.to_hidden(x)).square())
