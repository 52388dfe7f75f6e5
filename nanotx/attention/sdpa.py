"""Attention through the library's kernel, which never holds all the weights at once.

Source: Dao et al. 2022, FlashAttention, https://arxiv.org/abs/2205.14135;
https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.scaled_dot_product_attention.html
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from nanotx.attention import SOFTMAX, Attention, Bias, Headed, HeadedAttention, seen
from nanotx.shapes import Keys, Queries, Values


@Attention.register("sdpa")
@dataclass(frozen=True, kw_only=True)
class Sdpa(Headed):
    """One projection for all heads, the library's kernel; memory grows with the time, not with its square."""

    function: ClassVar[str] = SOFTMAX

    def build(self, dim: int) -> nn.Module:
        return SdpaAttention(self, dim)


class SdpaAttention(HeadedAttention):
    """The same function as `FusedAttention`.

    The library's own causal mask stands at the top left, which is right only where there is no past: a single
    query after a past sees all keys and takes no mask, several take an explicit one.
    """

    def attend(self, q: Queries, k: Keys, v: Values, bias: Bias | None) -> Queries:
        t, s = q.shape[2], k.shape[2]
        mask, causal = None, False
        if bias is not None:
            mask = bias.type_as(q).masked_fill(~seen(t, s, q.device), -torch.inf)
        elif t == s:
            causal = True
        elif t > 1:
            mask = seen(t, s, q.device)
        return scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=self.dropout, is_causal=causal)
