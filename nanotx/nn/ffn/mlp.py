"""Two maps with a bend between them.

Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, equation 2 (relu);
Hendrycks and Gimpel 2016, https://arxiv.org/abs/1606.08415 (gelu, the exact one)
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from nanotx.config.schema import at_least, at_most
from nanotx.nn.ffn.base import Ffn
from nanotx.nn.linear import Linear
from nanotx.nn.shapes import Stream


@Ffn.register("mlp")
@dataclass(frozen=True, kw_only=True)
class Mlp(Ffn):
    """Two maps with a bend between them."""

    width: int | None = None  # of the hidden layer; None is 4 * dim
    activation: Literal["relu", "gelu"] = "gelu"  # the function between the two maps
    bias: bool = False  # in both maps

    def __post_init__(self) -> None:
        at_least(self, 1, "width")
        at_most(self, 2**24, "width")

    def build(self, dim: int) -> nn.Module:
        return MlpFfn(self, dim)


class MlpFfn(nn.Module):
    """Wide, bent, narrow."""

    def __init__(self, config: Mlp, dim: int) -> None:
        super().__init__()
        width = 4 * dim if config.width is None else config.width
        self.bend: Callable[[Tensor], Tensor] = getattr(F, config.activation)
        self.to_hidden = Linear(dim, width, bias=config.bias)
        self.to_out = Linear(width, dim, bias=config.bias)

    def forward(self, x: Stream) -> Stream:
        return self.to_out(self.bend(self.to_hidden(x)))
