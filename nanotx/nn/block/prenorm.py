"""Pre-norm: each branch reads the normed stream; the residual stream itself is never normed.

Source: Radford et al. 2019, Language Models are Unsupervised Multitask Learners, section 2.3;
Xiong et al. 2020, https://arxiv.org/abs/2002.04745
"""

from dataclasses import dataclass

from torch import nn

from nanotx.nn.arguments import check_arguments
from nanotx.nn.block.base import Block, TwoBranches, TwoBranchesBlock
from nanotx.nn.kv_cache import KVCache
from nanotx.nn.position import NO_POSITION, PositionalEncoding
from nanotx.nn.shapes import Stream


@Block.register("prenorm")
@dataclass(frozen=True, kw_only=True)
class PreNorm(TwoBranches):
    """x + branch(norm(x)), twice."""

    def build(self, dim: int) -> nn.Module:
        return PreNormBlock(self, dim)


class PreNormBlock(TwoBranchesBlock):
    """x + branch(norm(x)), twice."""

    def forward(self, x: Stream, position: PositionalEncoding = NO_POSITION, cache: KVCache | None = None) -> Stream:
        check_arguments(self, x, self.dim, position, cache)
        x = x + self.attention_dropout(self.attention(self.attention_norm(x), position, cache))
        return x + self.ffn_dropout(self.ffn(self.ffn_norm(x)))
