"""A hidden layer in two halves: one, through GELU, gates the other.

Source: Shazeer 2020, https://arxiv.org/abs/2002.05202, equation 6
"""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from nanotx.nn.ffn.base import Ffn
from nanotx.nn.ffn.gated import Gated, GatedFfn


@Ffn.register("geglu")
@dataclass(frozen=True, kw_only=True)
class GeGlu(Gated):
    """A hidden layer gated by its twin, through GELU."""

    def build(self, dim: int) -> nn.Module:
        return GeGluFfn(self, dim)


class GeGluFfn(GatedFfn):
    """x times the share of a normal distribution below it opens the gate."""

    def activation(self, gate: Tensor) -> Tensor:
        return F.gelu(gate)
