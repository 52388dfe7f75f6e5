"""Root-mean-square normalisation: divide by the root of the mean square, and scale.

Source: Zhang and Sennrich 2019, https://arxiv.org/abs/1910.07467, equation 4
"""

from dataclasses import dataclass

from torch import nn

from nanotx.config import at_least
from nanotx.norm import Norm


@Norm.register("rms")
@dataclass(frozen=True, kw_only=True)
class Rms(Norm):
    """Root-mean-square normalisation."""

    eps: float = 1e-6  # added to the mean square

    def __post_init__(self) -> None:
        at_least(self, 0, "eps")

    def build(self, dim: int) -> nn.Module:
        return nn.RMSNorm(dim, eps=self.eps)
