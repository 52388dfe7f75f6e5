"""Layer normalisation: subtract the mean, divide by the standard deviation, scale and shift.

Source: Ba et al. 2016, https://arxiv.org/abs/1607.06450, equation 4
"""

from dataclasses import dataclass

from torch import nn

from nanotx.config.schema import check_min
from nanotx.nn.norm.base import Norm


@Norm.register("layernorm")
@dataclass(frozen=True, kw_only=True)
class LayerNorm(Norm):
    """Layer normalisation."""

    eps: float = 1e-5  # small number added to the variance
    bias: bool = True  # learn a bias after the scale

    def __post_init__(self) -> None:
        check_min(self, 0, "eps")

    def build(self, dim: int) -> nn.Module:
        return nn.LayerNorm(dim, eps=self.eps, bias=self.bias)
