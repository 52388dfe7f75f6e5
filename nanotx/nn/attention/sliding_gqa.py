"""Grouped-query attention within a sliding window: a smaller KV cache, and work that is linear in the text's length.

kv_heads = heads is `sliding_window`; a window over all positions is `gqa`. Mistral 7B has both.
Source: Jiang et al. 2023, https://arxiv.org/abs/2310.06825, section 2
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from nanotx.config.schema import check_min
from nanotx.nn.attention.base import SOFTMAX, Attention, Bias, MultiHead, MultiHeadAttention
from nanotx.nn.attention.gqa import check_kv_heads
from nanotx.nn.attention.sliding_window import within_window
from nanotx.nn.shapes import Keys, Queries, Values


@Attention.register("sliding_gqa")
@dataclass(frozen=True, kw_only=True)
class SlidingGroupedQuery(MultiHead):
    """Attention within a window that moves with the query, with fewer key and value heads than query heads."""

    supports_documents: ClassVar[bool] = True
    cost_only: ClassVar[tuple[str, ...]] = ("block",)

    kv_heads: int = 2  # number of key and value heads; a divisor of heads
    window: int = 128  # number of positions that a query attends to, including its own
    block: int = 128  # number of queries per block

    def __post_init__(self) -> None:
        super().__post_init__()
        check_min(self, 1, "window", "block")
        check_kv_heads(self)

    @property
    def attention_window(self) -> int:
        return self.window

    def equivalent_at(self, length: int) -> str:
        return SOFTMAX if self.kv_heads == self.heads and length <= self.window else ""

    def build(self, dim: int) -> nn.Module:
        return SlidingGroupedQueryAttention(self, dim)


class SlidingGroupedQueryAttention(MultiHeadAttention):
    """`SlidingWindowAttention`, with fewer key and value heads."""

    config: SlidingGroupedQuery

    def attend(self, q: Queries, k: Keys, v: Values, bias: Bias | None) -> Queries:
        return within_window(q, k, v, bias, self.config.window, self.config.block, self.dropout)
