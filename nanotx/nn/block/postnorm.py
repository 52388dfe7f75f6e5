"""Post-norm: the stream is normed after each branch is added, as in the original transformer.

Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.1
"""

from dataclasses import dataclass

from torch import nn

from nanotx.nn.arguments import check_arguments
from nanotx.nn.block.base import Block, TwoBranches, TwoBranchesBlock
from nanotx.nn.kv_cache import KVCache
from nanotx.nn.position import NO_POSITION, PositionalEncoding
from nanotx.nn.shapes import Stream


@Block.register("postnorm")
@dataclass(frozen=True, kw_only=True)
class PostNorm(TwoBranches):
    """norm(x + branch(x)), twice."""

    def build(self, dim: int) -> nn.Module:
        return PostNormBlock(self, dim)


class PostNormBlock(TwoBranchesBlock):
    """norm(x + branch(x)), twice."""

    def forward(self, x: Stream, position: PositionalEncoding = NO_POSITION, cache: KVCache | None = None) -> Stream:
        check_arguments(self, x, self.dim, position, cache)
        x = self.attention_norm(x + self.attention_dropout(self.attention(x, position, cache)))
        return self.ffn_norm(x + self.ffn_dropout(self.ffn(x)))
