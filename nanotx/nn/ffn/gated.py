"""Gated feed-forwards; a part defines only the activation of the gate."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from einops import rearrange
from torch import Tensor, nn

from nanotx.config.schema import check_max, check_min
from nanotx.nn.arguments import check_width
from nanotx.nn.ffn.base import Ffn
from nanotx.nn.linear import Linear
from nanotx.nn.shapes import Stream


@dataclass(frozen=True, kw_only=True)
class Gated(Ffn):
    """Fields of a gated feed-forward."""

    hidden_dim: int | None = None  # width of the hidden layer; None is 8/3 * dim, rounded up to a multiple of 8
    bias: bool = False  # learn a bias in both linear maps

    def __post_init__(self) -> None:
        check_min(self, 1, "hidden_dim")
        check_max(self, 2**24, "hidden_dim")


class GatedFfn(nn.Module, ABC):
    """activation(x W) * (x V), projected back; by default it has as many weights as an `mlp` with 4 * dim."""

    def __init__(self, config: Gated, dim: int) -> None:
        super().__init__()
        hidden_dim = -(-dim // 3) * 8 if config.hidden_dim is None else config.hidden_dim
        self.to_hidden = Linear(dim, 2 * hidden_dim, bias=config.bias)
        self.to_out = Linear(hidden_dim, dim, bias=config.bias)

    def forward(self, x: Stream) -> Stream:
        check_width(self, x, self.to_hidden.in_features)
        gate, hidden = rearrange(self.to_hidden(x), "b t (two f) -> two b t f", two=2)
        return self.to_out(self.activation(gate) * hidden)

    @abstractmethod
    def activation(self, gate: Tensor) -> Tensor:
        """Apply the activation to the gate."""
