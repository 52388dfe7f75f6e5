"""Attention in one pass over the keys by an online softmax, as in flash attention; written for clarity, not speed.

A softmax divides by a sum over all keys, which is known only after the last of them. So three running values are kept
for each query: the largest score so far, the sum of exp(score - largest), and the values weighted by the same. When a
block of keys has a larger score, the sum and the values are rescaled. Only one block of scores is in memory at a time.
Source: Milakov & Gimelshein 2018, https://arxiv.org/abs/1805.02867, algorithm 3;
Dao et al. 2022, https://arxiv.org/abs/2205.14135, algorithm 1, here with all queries in one block
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from einops import einsum
from torch import nn

from nanotx.config.schema import check_min
from nanotx.nn.attention.base import SOFTMAX, Attention, Bias, MultiHead, MultiHeadAttention, causal_mask
from nanotx.nn.shapes import Keys, Queries, Values


@Attention.register("online_softmax")
@dataclass(frozen=True, kw_only=True)
class OnlineSoftmax(MultiHead):
    """Attention with a running maximum, a running sum and a running output."""

    equivalent_to: ClassVar[str] = SOFTMAX
    supports_documents: ClassVar[bool] = True
    cost_only: ClassVar[tuple[str, ...]] = ("block",)

    block: int = 128  # number of keys per block

    def __post_init__(self) -> None:
        super().__post_init__()
        check_min(self, 1, "block")

    def build(self, dim: int) -> nn.Module:
        return OnlineSoftmaxAttention(self, dim)


class OnlineSoftmaxAttention(MultiHeadAttention):
    """Equivalent to `FusedAttention`, without materialising all the scores."""

    config: OnlineSoftmax

    def attend(self, q: Queries, k: Keys, v: Values, bias: Bias | None) -> Queries:
        exact = torch.promote_types(q.dtype, torch.float32)
        allowed = causal_mask(q.shape[2], k.shape[2], q.device)
        largest = q.new_full((*q.shape[:3], 1), -torch.inf, dtype=exact)
        total, output = torch.zeros_like(largest), torch.zeros_like(q, dtype=exact)
        q = q / math.sqrt(q.shape[-1])
        for start in range(0, k.shape[2], self.config.block):
            block = slice(start, start + self.config.block)
            scores = einsum(q, k[:, :, block], "b h t k, b h s k -> b h t s").to(exact)
            if bias is not None:
                scores = scores + bias[..., block]
            scores = scores.masked_fill(~allowed[:, block], -torch.inf)

            # The output does not depend on the subtracted maximum, so it needs no gradient.
            previous, largest = largest, torch.maximum(largest, scores.detach().amax(dim=-1, keepdim=True))
            shift = largest.masked_fill(largest == -torch.inf, 0.0)  # no key allowed yet: any value will do
            rescale = (previous - shift).exp()
            weights = (scores - shift).exp()

            total = total * rescale + weights.sum(dim=-1, keepdim=True)
            dropped_out = self.dropout(weights, start=(0, 0, start)).type_as(v)
            output = output * rescale + einsum(dropped_out, v[:, :, block], "b h t s, b h s k -> b h t k")
        return (output / total).type_as(v)
