"""The library's kernel for attention, told which keys each query may look at.

Source: Dao et al. 2022, FlashAttention, https://arxiv.org/abs/2205.14135;
https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.scaled_dot_product_attention.html
"""

import torch
from torch.nn.functional import scaled_dot_product_attention

from nanotx.nn.attention.base import Bias, causal_mask
from nanotx.nn.shapes import Keys, Queries, Values


def kernel(q: Queries, k: Keys, v: Values, bias: Bias | None, dropout: float) -> Queries:
    """What each query reads; heads share keys and values evenly where there are fewer of those.

    The library's own causal mask stands at the top left, which is right only where there is no cache: a single
    query after a cache sees all keys and takes no mask, several take an explicit one.
    """
    t, s = q.shape[2], k.shape[2]
    mask, causal, shared = None, False, q.shape[1] != k.shape[1]
    if bias is not None:
        mask = bias.type_as(q).masked_fill(~causal_mask(t, s, q.device), -torch.inf)
    elif t == s:
        causal = True
    elif t > 1:
        mask = causal_mask(t, s, q.device)
    return scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=causal, enable_gqa=shared)
