"""Gated linear unit with SiLU (Swish).

Source: Shazeer 2020, https://arxiv.org/abs/2002.05202, equation 6
"""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from nanotx.nn.ffn.base import Ffn
from nanotx.nn.ffn.gated import Gated, GatedFfn


@Ffn.register("swiglu")
@dataclass(frozen=True, kw_only=True)
class SwiGlu(Gated):
    """A hidden layer gated through SiLU."""

    def build(self, dim: int) -> nn.Module:
        return SwiGluFfn(self, dim)


class SwiGluFfn(GatedFfn):
    """SiLU(x W) * (x V), projected back."""

    def activation(self, gate: Tensor) -> Tensor:
        return F.silu(gate)
