"""Root-mean-square normalisation: divide by the root of the mean square, and scale.

Source: Zhang and Sennrich 2019, https://arxiv.org/abs/1910.07467, equation 4
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from nanotx.config.schema import check_min
from nanotx.nn.norm.base import Norm

Normed = Float[Tensor, "... d"]
"""A stream, or the queries or keys of heads."""


@Norm.register("rmsnorm")
@dataclass(frozen=True, kw_only=True)
class RmsNorm(Norm):
    """Root-mean-square normalisation."""

    eps: float = 1e-6  # small number added to the mean square

    def __post_init__(self) -> None:
        check_min(self, 0, "eps")

    def build(self, dim: int) -> nn.Module:
        return RmsNormLayer(dim, eps=self.eps)


class RmsNormLayer(nn.RMSNorm):
    """PyTorch's RMSNorm, fast also where the stream and the weights have different dtypes."""

    def forward(self, x: Normed) -> Normed:
        return F.rms_norm(x, self.normalized_shape, self.weight.type_as(x), self.eps)
