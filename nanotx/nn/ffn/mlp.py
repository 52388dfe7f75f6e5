"""The plain feed-forward: two linear maps with an activation between them.

Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, equation 2 (relu);
Hendrycks and Gimpel 2016, https://arxiv.org/abs/1606.08415 (gelu, the exact one)
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from nanotx.config.schema import check_max, check_min
from nanotx.nn.ffn.base import Ffn
from nanotx.nn.linear import Linear
from nanotx.nn.shapes import Stream


@Ffn.register("mlp")
@dataclass(frozen=True, kw_only=True)
class Mlp(Ffn):
    """Two linear maps with an activation between them."""

    hidden_dim: int | None = None  # width of the hidden layer; None is 4 * dim
    activation: Literal["relu", "gelu"] = "gelu"  # activation function between the linear maps
    bias: bool = False  # learn a bias in both linear maps

    def __post_init__(self) -> None:
        check_min(self, 1, "hidden_dim")
        check_max(self, 2**24, "hidden_dim")

    def build(self, dim: int) -> nn.Module:
        return MlpFfn(self, dim)


class MlpFfn(nn.Module):
    """activation(x W_1 + b_1) W_2 + b_2."""

    def __init__(self, config: Mlp, dim: int) -> None:
        super().__init__()
        hidden_dim = 4 * dim if config.hidden_dim is None else config.hidden_dim
        self.activation: Callable[[Tensor], Tensor] = getattr(F, config.activation)
        self.to_hidden = Linear(dim, hidden_dim, bias=config.bias)
        self.to_out = Linear(hidden_dim, dim, bias=config.bias)

    def forward(self, x: Stream) -> Stream:
        return self.to_out(self.activation(self.to_hidden(x)))
