"""The plain feed-forward: two linear maps with an activation between them.

Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, equation 2 (relu);
Hendrycks and Gimpel 2016, https://arxiv.org/abs/1606.08415 (gelu, the exact one, and gelu_tanh, which approximates it)
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from nanotx.config.schema import check_max, check_min
from nanotx.nn.arguments import check_width
from nanotx.nn.ffn.base import Ffn
from nanotx.nn.linear import Linear

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),  # GPT-2's
}


@Ffn.register("mlp")
@dataclass(frozen=True, kw_only=True)
class Mlp(Ffn):
    """Two linear maps with an activation between them."""

    hidden_dim: int | None = None  # width of the hidden layer; None is 4 * dim
    activation: Literal["relu", "gelu", "gelu_tanh"] = "gelu"  # activation function between the linear maps
    bias: bool = False  # learn a bias in both linear maps

    def __post_init__(self) -> None:
        check_min(self, 1, "hidden_dim")
        check_max(self, 2**24, "hidden_dim")

    def build(self, dim: int) -> nn.Module:
        return MlpFfn(dim, self.hidden_dim or 4 * dim, ACTIVATIONS[self.activation], self.bias)


class MlpFfn(nn.Module):
    """activation(x W_1 + b_1) W_2 + b_2."""

    def __init__(self, dim: int, hidden_dim: int, activation: Callable[[Tensor], Tensor], bias: bool) -> None:
        super().__init__()
        self.activation = activation
        self.to_hidden = Linear(dim, hidden_dim, bias=bias)
        self.to_out = Linear(hidden_dim, dim, bias=bias)

    def forward(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        check_width(self, x, self.to_hidden.in_features)
        return self.to_out(self.activation(self.to_hidden(x)))
