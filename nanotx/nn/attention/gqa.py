"""Grouped-query attention: `heads` query heads share `kv_heads` key and value heads, so that the KV cache is smaller.

kv_heads = heads is `sdpa`; kv_heads = 1 is multi-query attention. Neighbouring query heads share a key and value head.
Source: Ainslie et al. 2023, https://arxiv.org/abs/2305.13245, section 2.2
"""

from dataclasses import dataclass
from typing import ClassVar

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

    supports_documents: ClassVar[bool] = True

    kv_heads: int = 2  # number of key and value heads; a divisor of heads

    def __post_init__(self) -> None:
        super().__post_init__()
        check_kv_heads(self)

    def equivalent_at(self, length: int) -> str:
        return SOFTMAX if self.kv_heads == self.heads else ""

    def build(self, dim: int) -> nn.Module:
        return GroupedQueryAttention(self, dim)


def check_kv_heads(config: MultiHead) -> None:
    """Raise ConfigError unless the query heads share the key and value heads evenly."""
    check_min(config, 1, "kv_heads")
    if config.heads % config.kv_heads:
        fit = divisors(config.heads)
        raise ConfigError(
            f"{config.part}: heads={config.heads} cannot share kv_heads={config.kv_heads}; try kv_heads from {fit}, as "
            f"in --attention.kv-heads {nearest(config.kv_heads, fit)}."
        )


class GroupedQueryAttention(MultiHeadAttention):
    """`SdpaAttention`, with fewer key and value heads."""

    def attend(self, q: Queries, k: Keys, v: Values, bias: Bias | None) -> Queries:
        return kernel(q, k, v, bias, self.dropout)
