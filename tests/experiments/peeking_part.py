"""An attention that breaks causality, as a file of a user's own."""

from dataclasses import dataclass

from torch import Tensor, nn

from nanotx.nn.attention import Attention


class Peek(nn.Module):
    def forward(self, x: Tensor, position: object = None, cache: object = None) -> Tensor:
        return x + x.roll(-1, dims=1)


@Attention.register("peeks_ahead")
@dataclass(frozen=True, kw_only=True)
class PeeksAhead(Attention):
    def build(self, dim: int) -> nn.Module:
        return Peek()
