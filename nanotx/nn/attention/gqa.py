"""Grouped-query attention: `heads` query heads share `kv_heads` key and value heads, so that the KV cache is smaller.

kv_heads = heads is `sdpa`; kv_heads = 1 is multi-query attention. Neighbouring query heads share a key and value head.
Source: Ainslie et al. 2023, https://arxiv.org/abs/2305.13245, section 2.2
"""

from dataclasses import dataclass

from torch import nn

from nanotx.config.schema import check_min, divisors, nearest
from nanotx.errors import ConfigError
from nanotx.nn.attention.base import SOFTMAX, Attention, Bias, MultiHead, MultiHeadAttention
from nanotx.nn.attention.kernel import kernel
from nanotx.nn.shapes import Keys, Queries, Values


@Attention.register("gqa")
@dataclass(frozen=True, kw_only=True)
class GroupedQuery(MultiHead):
    """PyTorch's kernel, with fewer key and value heads than query heads."""

    kv_heads: int = 2  # number of key and value heads; a divisor of heads

    def __post_init__(self) -> None:
        super().__post_init__()
        check_min(self, 1, "kv_heads")
        if self.heads % self.kv_heads:
            fit = divisors(self.heads)
            raise ConfigError(
                f"gqa: heads={self.heads} cannot share kv_heads={self.kv_heads}; try kv_heads from {fit}, as in "
                f"--attention.kv-heads {nearest(self.kv_heads, fit)}."
            )

    def equivalent_at(self, length: int) -> str:
        return SOFTMAX if self.kv_heads == self.heads else ""

    def build(self, dim: int) -> nn.Module:
        return GroupedQueryAttention(self, dim)


class GroupedQueryAttention(MultiHeadAttention):
    """`SdpaAttention`, with fewer key and value heads."""

    def attend(self, q: Queries, k: Keys, v: Values, bias: Bias | None) -> Queries:
        return kernel(q, k, v, bias, self.dropout)
