"""PyTorch's kernel for attention, with a causal mask that fits the KV cache.

Source: Dao et al. 2022, FlashAttention, https://arxiv.org/abs/2205.14135;
https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.scaled_dot_product_attention.html
"""

import torch
from torch.nn.functional import scaled_dot_product_attention

from nanotx.nn.attention.base import Bias, causal_mask
from nanotx.nn.shapes import Keys, Queries, Values


def kernel(q: Queries, k: Keys, v: Values, bias: Bias | None, dropout: float) -> Queries:
    """Return the attention output of each query; query heads share key and value heads evenly.

    PyTorch's causal mask is aligned to the top left, which is right only without a cache. After cached tokens a
    single query attends to all keys and needs no mask, and several queries get an explicit one.
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
