"""No norm: the identity."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from nanotx.nn.norm.base import Norm


@Norm.register("none")
@dataclass(frozen=True, kw_only=True)
class NoNorm(Norm):
    """The identity."""

    scale_free: ClassVar[bool] = False

    def build(self, dim: int) -> nn.Module:
        return nn.Identity()
