"""Gated linear unit with GELU.

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
    """A hidden layer gated through GELU."""

    def build(self, dim: int) -> nn.Module:
        return GeGluFfn(self, dim)


class GeGluFfn(GatedFfn):
    """GELU(x W) * (x V), projected back."""

    def activation(self, gate: Tensor) -> Tensor:
        return F.gelu(gate)
