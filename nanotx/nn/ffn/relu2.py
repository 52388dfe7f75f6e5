"""Two linear maps with a squared ReLU between them.

Source: So et al. 2021, Primer, https://arxiv.org/abs/2109.08668
"""

from dataclasses import dataclass

from torch import nn
from torch.nn import functional as F

from nanotx.config.schema import check_max, check_min
from nanotx.nn.ffn.base import Ffn
from nanotx.nn.linear import Linear
from nanotx.nn.shapes import Stream


@Ffn.register("relu2")
@dataclass(frozen=True, kw_only=True)
class Relu2(Ffn):
    """Two linear maps with a squared ReLU between them."""

    hidden_dim: int | None = None  # width of the hidden layer; None is 4 * dim
    bias: bool = False  # learn a bias in both linear maps

    def __post_init__(self) -> None:
        check_min(self, 1, "hidden_dim")
        check_max(self, 2**24, "hidden_dim")

    def build(self, dim: int) -> nn.Module:
        return Relu2Ffn(self, dim)


class Relu2Ffn(nn.Module):
    """ReLU(x W_1 + b_1)^2 W_2 + b_2."""

    def __init__(self, config: Relu2, dim: int) -> None:
        super().__init__()
        hidden_dim = 4 * dim if config.hidden_dim is None else config.hidden_dim
        self.to_hidden = Linear(dim, hidden_dim, bias=config.bias)
        self.to_out = Linear(hidden_dim, dim, bias=config.bias)

    def forward(self, x: Stream) -> Stream:
        return self.to_out(F.relu(self.to_hidden(x)).square())
