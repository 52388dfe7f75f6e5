"""Multi-head attention as it is first taught: a module for one head, a list of heads, a projection.

Equivalent to `fused` and `sdpa`, whose layout of the weights is the canonical one:

    to_qkv = all heads' to_q, stacked as rows, then all heads' to_k, then all heads' to_v

Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.2
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor, nn

from nanotx.nn.arguments import check_arguments
from nanotx.nn.attention.base import SOFTMAX, Attention, MultiHead, causal_mask, positions
from nanotx.nn.canonical import CustomLayout, Tensors
from nanotx.nn.dropout import Dropout
from nanotx.nn.kv_cache import KVCache
from nanotx.nn.linear import Linear
from nanotx.nn.position import NO_POSITION, PositionalEncoding
from nanotx.nn.shapes import Stream

Norms = tuple[nn.Module, nn.Module]
"""Norms of queries and of keys; all heads share them."""


@Attention.register("per_head")
@dataclass(frozen=True, kw_only=True)
class PerHead(MultiHead):
    """One module per head: the slowest attention, and the plainest."""

    equivalent_to: ClassVar[str] = SOFTMAX
    supports_documents: ClassVar[bool] = True

    def build(self, dim: int) -> nn.Module:
        return PerHeadAttention(self, dim)


class Head(nn.Module):
    """The `index`-th head of self-attention."""

    def __init__(self, config: PerHead, dim: int, index: int) -> None:
        super().__init__()
        self.config, self.index = config, index
        self.to_q = Linear(dim, config.head_width(dim), bias=config.bias)
        self.to_k = Linear(dim, config.head_width(dim), bias=config.bias)
        self.to_v = Linear(dim, config.head_width(dim), bias=config.bias)

    def forward(
        self, x: Stream, norms: Norms, dropout: Dropout, position: PositionalEncoding, cache: KVCache | None
    ) -> Float[Tensor, "b t k"]:
        q, k, v = norms[0](self.to_q(x)), norms[1](self.to_k(x)), self.to_v(x)
        q_pos, k_pos = positions(x, cache)
        q, k = position.rotate(q, k, q_pos)
        if cache is not None:
            k, v = cache.append(k, v)
        scores = einsum(q, k, "b t k, b s k -> b t s") / math.sqrt(q.shape[-1])
        bias = position.bias(q_pos, k_pos)
        if bias is not None:
            scores = scores + bias[..., self.index % bias.shape[-3], :, :]
        scores = scores.masked_fill(~causal_mask(q.shape[1], k.shape[1], x.device), -torch.inf)
        weights = rearrange(scores.softmax(dim=-1).type_as(v), "b t s -> b 1 t s")
        weights = rearrange(dropout(weights, start=(self.index, 0, 0)), "b 1 t s -> b t s")
        return einsum(weights, v, "b t s, b s k -> b t k")


class PerHeadAttention(CustomLayout):
    """Several heads, concatenated and projected back to the stream."""

    def __init__(self, config: PerHead, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.heads = nn.ModuleList(Head(config, dim, index) for index in range(config.heads))
        self.q_norm, self.k_norm = config.head_norm(dim), config.head_norm(dim)
        self.dropout = Dropout(config.dropout)  # on the attention weights, one for all heads
        self.to_out = Linear(config.heads * config.head_width(dim), dim, bias=config.out_bias)

    def forward(self, x: Stream, position: PositionalEncoding = NO_POSITION, cache: KVCache | None = None) -> Stream:
        check_arguments(self, x, self.dim, position, cache)
        caches = [cache.layer(index) if cache is not None else None for index in range(len(self.heads))]
        norms = (self.q_norm, self.k_norm)
        outputs = [
            head(x, norms, self.dropout, position, cache) for head, cache in zip(self.heads, caches, strict=True)
        ]
        return self.to_out(torch.cat(outputs, dim=-1))

    def to_canonical(self, tensors: Tensors) -> Tensors:
        canonical = {key: tensor for key, tensor in tensors.items() if not key.startswith("heads.")}
        for kind in {key.split(".")[-1] for key in tensors if key.startswith("heads.")}:
            parts = [tensors[f"heads.{head}.to_{name}.{kind}"] for name in "qkv" for head in range(len(self.heads))]
            canonical[f"to_qkv.{kind}"] = torch.cat(parts)
        return canonical

    def from_canonical(self, canonical: Tensors) -> Tensors:
        tensors = {key: tensor for key, tensor in canonical.items() if not key.startswith("to_qkv.")}
        for key in canonical.keys() - tensors.keys():
            kind = key.removeprefix("to_qkv.")
            parts = rearrange(canonical[key], "(three h k) ... -> three h k ...", three=3, h=len(self.heads))
            for name, heads in zip("qkv", parts, strict=True):
                tensors |= {f"heads.{head}.to_{name}.{kind}": part for head, part in enumerate(heads)}
        return tensors
