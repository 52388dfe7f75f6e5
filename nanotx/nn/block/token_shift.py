"""Token shift: a block that reads the stream mixed with the positions before, at almost no cost.

Each channel has a weight of its own, so that some carry the previous position and others the current one.
Source: Peng et al. 2023, RWKV, https://arxiv.org/abs/2305.13048, section 3.1.1, there on the input of each branch
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from einops import rearrange
from torch import nn
from torch.nn import functional as F

from nanotx.config.registry import default_part
from nanotx.config.schema import check_max, check_min
from nanotx.nn.arguments import check_arguments
from nanotx.nn.attention import Attention
from nanotx.nn.block.base import Block
from nanotx.nn.kv_cache import KVCache
from nanotx.nn.position import NO_POSITION, PositionalEncoding
from nanotx.nn.shapes import Stream


@Block.register("token_shift")
@dataclass(frozen=True, kw_only=True)
class TokenShift(Block):
    """Another block, applied to x + weight_1 * (x one position before) + weight_2 * (x two positions before) + ..."""

    supports_documents: ClassVar[bool] = True

    shifts: int = 1  # number of previous positions that are mixed in
    block: Block = default_part(Block, "prenorm")  # the block that reads the mixture

    def __post_init__(self) -> None:
        check_min(self, 1, "shifts")
        check_max(self, 1024, "shifts")

    @property
    def attentions(self) -> tuple[Attention, ...]:
        return self.block.attentions

    @property
    def attention_window(self) -> int | None:
        return None if self.block.attention_window is None else self.block.attention_window + self.shifts

    def build(self, dim: int) -> nn.Module:
        return TokenShiftBlock(self, dim)


class TokenShiftBlock(nn.Module):
    """Weights are initialised to zero: at first it equals the inner block."""

    def __init__(self, config: TokenShift, dim: int) -> None:
        super().__init__()
        self.weights = nn.ParameterList(torch.zeros(dim) for _ in range(config.shifts))
        self.block = config.block.build(dim)

    def forward(self, x: Stream, position: PositionalEncoding = NO_POSITION, cache: KVCache | None = None) -> Stream:
        check_arguments(self, x, len(self.weights[0]), position, cache)
        shifts, length = len(self.weights), x.shape[1]
        previous = F.pad(x, (0, 0, shifts, 0)) if cache is None else torch.cat([cache.previous(x, shifts), x], dim=1)
        for back, weight in enumerate(self.weights, start=1):
            before = previous[:, shifts - back : shifts - back + length]
            if position.within is not None:  # a document has nothing before its first token
                before = before * rearrange(position.within >= back, "b t -> b t 1")
            x = torch.addcmul(x, before, weight.type_as(x))
        return self.block(x, position, None if cache is None else cache.layer(0))
