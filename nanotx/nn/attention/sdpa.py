"""Attention through the library's kernel, which never holds all the weights at once.

Source: Dao et al. 2022, FlashAttention, https://arxiv.org/abs/2205.14135
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from nanotx.nn.attention.base import SOFTMAX, Attention, Bias, MultiHead, MultiHeadAttention
from nanotx.nn.attention.kernel import kernel
from nanotx.nn.shapes import Keys, Queries, Values


@Attention.register("sdpa")
@dataclass(frozen=True, kw_only=True)
class Sdpa(MultiHead):
    """One projection for all heads, the library's kernel; memory grows with the time, not with its square."""

    equivalent_to: ClassVar[str] = SOFTMAX

    def build(self, dim: int) -> nn.Module:
        return SdpaAttention(self, dim)


class SdpaAttention(MultiHeadAttention):
    """The same function as `FusedAttention`."""

    def attend(self, q: Queries, k: Keys, v: Values, bias: Bias | None) -> Queries:
        return kernel(q, k, v, bias, self.dropout)
