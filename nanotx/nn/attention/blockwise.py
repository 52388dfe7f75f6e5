"""Attention in causal blocks of queries, each with the keys up to the end of the block.

Equivalent to `fused`, without most of the masked half: for T positions in blocks of B, T (T + B) / 2 scores are
computed instead of T^2. On a CPU it is the fastest to train.
Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, equation 1
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from einops import rearrange
from torch import nn

from nanotx.config.schema import check_min
from nanotx.nn.attention.base import SOFTMAX, Attention, Bias, MultiHead, MultiHeadAttention, causal_mask, of_texts
from nanotx.nn.dropout import Dropout
from nanotx.nn.shapes import Keys, Queries, Values


@Attention.register("blockwise")
@dataclass(frozen=True, kw_only=True)
class Blockwise(MultiHead):
    """Exact attention in blocks of queries, skipping the keys that the causal mask would hide."""

    equivalent_to: ClassVar[str] = SOFTMAX
    supports_documents: ClassVar[bool] = True
    cost_only: ClassVar[tuple[str, ...]] = ("block",)

    block: int = 128  # number of queries per block

    def __post_init__(self) -> None:
        super().__post_init__()
        check_min(self, 1, "block")

    def build(self, dim: int) -> nn.Module:
        return BlockwiseAttention(self, dim)


class BlockwiseAttention(MultiHeadAttention):
    """softmax(Q K^T / sqrt(k)) V, block by block."""

    config: Blockwise

    def attend(self, q: Queries, k: Keys, v: Values, bias: Bias | None) -> Queries:
        return attend_blockwise(q, k, v, bias, self.dropout, self.config.block)


def attend_blockwise(q: Queries, k: Keys, v: Values, bias: Bias | None, dropout: Dropout, block: int) -> Queries:
    """Return the attention output of each query, as many heads of keys as of queries.

    Args:
        q, k, v, bias: as `MultiHeadAttention.attend` gets them.
        dropout: of the attention weights.
        block: queries per block.
    """
    (texts, heads), end, outputs = q.shape[:2], k.shape[2] - q.shape[2], []
    q, k, v = (rearrange(x, "b h t k -> (b h) t k") for x in (q / math.sqrt(q.shape[-1]), k, v))
    for index, rows in enumerate(q.split(block, dim=1)):
        t, start = rows.shape[1], index * block
        end = end + t
        added = rows.new_zeros(1, t, end)
        if bias is not None:
            added = of_texts(bias[..., start : start + t, :end].type_as(rows), texts, heads)
        added = added.masked_fill(~causal_mask(t, end, q.device), -torch.inf)
        keys = rearrange(k[:, :end], "n s k -> n k s")
        scores = torch.baddbmm(added, rows, keys)  # the mask is added by the product, at no cost
        weights = rearrange(scores.softmax(dim=-1).type_as(v), "(b h) t s -> b h t s", b=texts)
        weights = rearrange(dropout(weights, start=(0, start, 0)), "b h t s -> (b h) t s")
        outputs.append(rearrange(torch.bmm(weights, v[:, :end]), "(b h) t k -> b t h k", b=texts))
    return rearrange(torch.cat(outputs, dim=1), "b t h k -> b h t k")
