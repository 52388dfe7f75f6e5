"""Attention and feed-forward in parallel, each with a norm of its own: both outputs are added to the stream.

Source: Black et al. 2022, GPT-NeoX-20B, https://arxiv.org/abs/2204.06745, section 2.1.2: one norm was meant, two were
trained; Pythia has two as well.
"""

from dataclasses import dataclass

from torch import nn

from nanotx.nn.arguments import check_arguments
from nanotx.nn.block.base import Block, TwoBranches, TwoBranchesBlock
from nanotx.nn.kv_cache import KVCache
from nanotx.nn.position import NO_POSITION, PositionalEncoding
from nanotx.nn.shapes import Stream


@Block.register("parallel_norms")
@dataclass(frozen=True, kw_only=True)
class ParallelNorms(TwoBranches):
    """x + attention(norm(x)) + ffn(norm(x)), with two norms."""

    def build(self, dim: int) -> nn.Module:
        return ParallelNormsBlock(self, dim)


class ParallelNormsBlock(TwoBranchesBlock):
    """x + attention(norm(x)) + ffn(norm(x)), with two norms."""

    def forward(self, x: Stream, position: PositionalEncoding = NO_POSITION, cache: KVCache | None = None) -> Stream:
        check_arguments(self, x, self.dim, position, cache)
        attended = self.attention_dropout(self.attention(self.attention_norm(x), position, cache))
        return x + attended + self.ffn_dropout(self.ffn(self.ffn_norm(x)))
