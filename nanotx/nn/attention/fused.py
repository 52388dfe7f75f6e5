"""Attention with one projection for queries, keys and values, and its mathematics written out.

softmax(Q K^T / sqrt(k)) V, with a causal mask.
Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, equation 1
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from einops import einsum
from torch import nn

from nanotx.nn.attention.base import SOFTMAX, Attention, Bias, MultiHead, MultiHeadAttention, causal_mask
from nanotx.nn.shapes import Keys, Queries, Values


@Attention.register("fused")
@dataclass(frozen=True, kw_only=True)
class Fused(MultiHead):
    """One projection for all heads, the mathematics written out."""

    equivalent_to: ClassVar[str] = SOFTMAX
    supports_documents: ClassVar[bool] = True

    def build(self, dim: int) -> nn.Module:
        return FusedAttention(self, dim)


class FusedAttention(MultiHeadAttention):
    """softmax(Q K^T / sqrt(k)) V, line by line."""

    def attend(self, q: Queries, k: Keys, v: Values, bias: Bias | None) -> Queries:
        scores = einsum(q, k, "b h t k, b h s k -> b h t s") / math.sqrt(q.shape[-1])
        if bias is not None:
            scores = scores + bias
        scores = scores.masked_fill(~causal_mask(q.shape[2], k.shape[2], q.device), -torch.inf)
        weights = self.dropout(scores.softmax(dim=-1).type_as(v))
        return einsum(weights, v, "b h t s, b h s k -> b h t k")
