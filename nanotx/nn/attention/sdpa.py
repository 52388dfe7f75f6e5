"""Attention through PyTorch's `scaled_dot_product_attention`, which never materialises all the weights.

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
    """One projection for all heads and PyTorch's kernel; memory is linear in the length of the text."""

    equivalent_to: ClassVar[str] = SOFTMAX
    supports_documents: ClassVar[bool] = True

    def build(self, dim: int) -> nn.Module:
        return SdpaAttention(self, dim)


class SdpaAttention(MultiHeadAttention):
    """Equivalent to `FusedAttention`."""

    def attend(self, q: Queries, k: Keys, v: Values, bias: Bias | None) -> Queries:
        return kernel(q, k, v, bias, self.dropout)
