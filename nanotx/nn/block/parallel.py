"""Attention and feed-forward in parallel: both read the same normed stream, and both outputs are added to it.

It has half as many norms, and neither branch depends on the other.
Source: Wang and Komatsuzaki 2021, GPT-J, https://github.com/kingoflolz/mesh-transformer-jax;
Chowdhery et al. 2022, PaLM, https://arxiv.org/abs/2204.02311, section 2
"""

from dataclasses import dataclass

from torch import nn

from nanotx.nn.arguments import check_arguments
from nanotx.nn.block.base import Block, TwoBranches
from nanotx.nn.dropout import Dropout
from nanotx.nn.kv_cache import KVCache
from nanotx.nn.position import NO_POSITION, PositionalEncoding
from nanotx.nn.shapes import Stream


@Block.register("parallel")
@dataclass(frozen=True, kw_only=True)
class Parallel(TwoBranches):
    """x + attention(norm(x)) + ffn(norm(x)), with one norm."""

    def build(self, dim: int) -> nn.Module:
        return ParallelBlock(self, dim)


class ParallelBlock(nn.Module):
    """x + attention(norm(x)) + ffn(norm(x)), with one norm."""

    def __init__(self, config: Parallel, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.norm = config.norm.build(dim)
        self.attention = config.attention.build(dim)
        self.ffn = config.ffn.build(dim)
        self.attention_dropout = Dropout(config.dropout)
        self.ffn_dropout = Dropout(config.dropout)

    def forward(self, x: Stream, position: PositionalEncoding = NO_POSITION, cache: KVCache | None = None) -> Stream:
        check_arguments(self, x, self.dim, position, cache)
        y = self.norm(x)
        return x + self.attention_dropout(self.attention(y, position, cache)) + self.ffn_dropout(self.ffn(y))
