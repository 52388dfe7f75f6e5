"""Sandwich norm: each branch is between two norms, of its input and of its output.

However large the output of a branch grows, what is added to the stream has a bounded size.
Source: Ding et al. 2021, CogView, https://arxiv.org/abs/2105.13290, section 2.4;
Gemma Team 2024, Gemma 2, https://arxiv.org/abs/2408.00118, section 2
"""

from dataclasses import dataclass

from torch import nn

from nanotx.nn.arguments import check_arguments
from nanotx.nn.block.base import Block, TwoBranches, TwoBranchesBlock
from nanotx.nn.kv_cache import KVCache
from nanotx.nn.position import NO_POSITION, PositionalEncoding
from nanotx.nn.shapes import Stream


@Block.register("sandwich")
@dataclass(frozen=True, kw_only=True)
class Sandwich(TwoBranches):
    """x + norm(branch(norm(x))), twice."""

    def build(self, dim: int) -> nn.Module:
        return SandwichBlock(self, dim)


class SandwichBlock(TwoBranchesBlock):
    """x + norm(branch(norm(x))), twice."""

    def __init__(self, config: Sandwich, dim: int) -> None:
        super().__init__(config, dim)
        self.attention_out_norm = config.norm.build(dim)
        self.ffn_out_norm = config.norm.build(dim)

    def forward(self, x: Stream, position: PositionalEncoding = NO_POSITION, cache: KVCache | None = None) -> Stream:
        check_arguments(self, x, self.dim, position, cache)
        y = self.attention(self.attention_norm(x), position, cache)
        x = x + self.attention_dropout(self.attention_out_norm(y))
        return x + self.ffn_dropout(self.ffn_out_norm(self.ffn(self.ffn_norm(x))))
