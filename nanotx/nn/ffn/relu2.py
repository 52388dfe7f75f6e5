"""Two linear maps with a squared ReLU between them.

Source: So et al. 2021, Primer, https://arxiv.org/abs/2109.08668
"""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from nanotx.config.schema import check_max, check_min
from nanotx.nn.ffn.base import Ffn
from nanotx.nn.ffn.mlp import MlpFfn


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
        return MlpFfn(dim, self.hidden_dim or 4 * dim, relu2, self.bias)


def relu2(x: Tensor) -> Tensor:
    """Return ReLU(x)^2."""
    return F.relu(x).square()
