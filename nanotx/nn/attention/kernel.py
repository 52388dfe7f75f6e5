"""PyTorch's kernel for attention, with a causal mask that fits the KV cache.

The weights are computed block by block instead

- while they are dropped: the kernel draws dropout from PyTorch's generator, in an order that depends on the batch
  (docs/decisions/dropout.md);
- while a CPU trains in bfloat16 on texts that are not long: the kernel's gradient is slow there (docs/log.md).

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

BLOCK = 128
"""Queries per block where the weights are computed block by block."""

LONG = 1024
"""Queries above which the kernel's gradient in bfloat16 is no slower on a CPU; its memory is linear in their number."""


def kernel(q: Queries, k: Keys, v: Values, bias: Bias | None, dropout: Dropout) -> Queries:
    """Return the attention output of each query; query heads share key and value heads evenly.

    PyTorch's causal mask is aligned to the top left, which is right only without a cache. After cached tokens a
    single query attends to all keys and needs no mask, and several queries get an explicit one.
    """
    t, s, queries_per_key = q.shape[2], k.shape[2], q.shape[1] // k.shape[1]
    if dropout.active or has_slow_gradient(q):
        if queries_per_key > 1:
            k, v = (repeat(x, "b g s k -> b (g n) s k", n=queries_per_key) for x in (k, v))
        return attend_blockwise(q, k, v, bias, dropout, BLOCK)
    mask, causal = None, False
    if bias is not None:
        mask = bias.type_as(q).masked_fill(~causal_mask(t, s, q.device), -torch.inf)
    elif t == s:
        causal = True
    elif t > 1:
        mask = causal_mask(t, s, q.device)
    return scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, enable_gqa=queries_per_key > 1)


def has_slow_gradient(q: Queries) -> bool:
    """Return whether these queries get a gradient that PyTorch's kernel computes slowly."""
    return q.dtype is torch.bfloat16 and q.device.type == "cpu" and q.requires_grad and q.shape[2] <= LONG
