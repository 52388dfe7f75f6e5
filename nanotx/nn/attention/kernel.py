"""PyTorch's kernel for attention, with a causal mask that fits the KV cache.

The kernel draws dropout from PyTorch's generator, in an order that depends on the batch. So the weights are computed
block by block while they are dropped (docs/decisions/dropout.md).

Source: Dao et al. 2022, FlashAttention, https://arxiv.org/abs/2205.14135;
https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.scaled_dot_product_attention.html
"""

import torch
from einops import repeat
from torch.nn.functional import scaled_dot_product_attention

from nanotx.nn.attention.base import Bias, causal_mask
from nanotx.nn.attention.blockwise import attend_blockwise
from nanotx.nn.dropout import Dropout
from nanotx.nn.shapes import Keys, Queries, Values

DROPOUT_BLOCK = 128
"""Queries per block while attention weights are dropped."""


def kernel(q: Queries, k: Keys, v: Values, bias: Bias | None, dropout: Dropout) -> Queries:
    """Return the attention output of each query; query heads share key and value heads evenly.

    PyTorch's causal mask is aligned to the top left, which is right only without a cache. After cached tokens a
    single query attends to all keys and needs no mask, and several queries get an explicit one.
    """
    if dropout.active:
        k, v = (repeat(x, "b g s k -> b (g n) s k", n=q.shape[1] // k.shape[1]) for x in (k, v))
        return attend_blockwise(q, k, v, bias, dropout, DROPOUT_BLOCK)
    t, s = q.shape[2], k.shape[2]
    mask, causal, shared = None, False, q.shape[1] != k.shape[1]
    if bias is not None:
        mask = bias.type_as(q).masked_fill(~causal_mask(t, s, q.device), -torch.inf)
    elif t == s:
        causal = True
    elif t > 1:
        mask = causal_mask(t, s, q.device)
    return scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, enable_gqa=shared)
