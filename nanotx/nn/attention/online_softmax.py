"""Attention in one walk over the keys, as flash attention takes it; to be read rather than to be fast.

A softmax divides by a sum over all keys, which is not known before the last of them. So three things are carried
along for each query: the largest score so far, the sum of exp(score - largest), and the values weighed by the same.
When a block of keys brings a larger score, what was carried is shrunk to the new measure. Never more than a block of
scores is needed at a time.
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
from nanotx.nn.dropout import drop
from nanotx.nn.shapes import Keys, Queries, Values


@Attention.register("online_softmax")
@dataclass(frozen=True, kw_only=True)
class OnlineSoftmax(MultiHead):
    """A running maximum, a running sum and a running answer."""

    equivalent_to: ClassVar[str] = SOFTMAX
    cost_only: ClassVar[tuple[str, ...]] = ("block",)

    block: int = 128  # how many keys are read at once

    def __post_init__(self) -> None:
        super().__post_init__()
        check_min(self, 1, "block")

    def build(self, dim: int) -> nn.Module:
        return OnlineSoftmaxAttention(self, dim)


class OnlineSoftmaxAttention(MultiHeadAttention):
    """The same function as `FusedAttention`, without ever holding all the scores."""

    config: OnlineSoftmax

    def attend(self, q: Queries, k: Keys, v: Values, bias: Bias | None) -> Queries:
        exact = torch.promote_types(q.dtype, torch.float32)
        allowed = causal_mask(q.shape[2], k.shape[2], q.device)
        largest = q.new_full((*q.shape[:3], 1), -torch.inf, dtype=exact)
        total, answer = torch.zeros_like(largest), torch.zeros_like(q, dtype=exact)
        q = q / math.sqrt(q.shape[-1])
        for start in range(0, k.shape[2], self.config.block):
            here = slice(start, start + self.config.block)
            scores = einsum(q, k[:, :, here], "b h t k, b h s k -> b h t s").to(exact)
            if bias is not None:
                scores = scores + bias[:, :, here]
            scores = scores.masked_fill(~allowed[:, here], -torch.inf)

            # The answer does not depend on what is subtracted, so no gradient goes that way.
            before, largest = largest, torch.maximum(largest, scores.detach().amax(dim=-1, keepdim=True))
            measure = largest.masked_fill(largest == -torch.inf, 0.0)  # nothing allowed yet: anything will do
            shrink = (before - measure).exp()
            weights = (scores - measure).exp()

            total = total * shrink + weights.sum(dim=-1, keepdim=True)
            kept = drop(weights, self.dropout).type_as(v)
            answer = answer * shrink + einsum(kept, v[:, :, here], "b h t s, b h s k -> b h t k")
        return (answer / total).type_as(v)
