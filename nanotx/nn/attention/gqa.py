"""Grouped-query attention: heads share the keys and values of a few groups, so that a cache takes less memory.

groups = heads is `sdpa`; groups = 1 is multi-query attention. Neighbouring heads share a group.
Source: Ainslie et al. 2023, https://arxiv.org/abs/2305.13245, section 2.2
"""

from dataclasses import dataclass

from torch import nn

from nanotx.config.schema import at_least, divisors
from nanotx.errors import ConfigError
from nanotx.nn.attention.base import SOFTMAX, Attention, Bias, Headed, HeadedAttention
from nanotx.nn.attention.kernel import kernel
from nanotx.nn.shapes import Keys, Queries, Values


@Attention.register("gqa")
@dataclass(frozen=True, kw_only=True)
class GroupedQuery(Headed):
    """The library's kernel, with fewer keys and values than heads."""

    groups: int = 2  # how many keys and values at a position; they divide the heads

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 1, "groups")
        if self.heads % self.groups:
            fit = divisors(self.heads)
            raise ConfigError(f"gqa: heads={self.heads} cannot share groups={self.groups}; try groups from {fit}.")

    def writes(self, length: int) -> str:
        return SOFTMAX if self.groups == self.heads else ""

    def build(self, dim: int) -> nn.Module:
        return GroupedQueryAttention(self, dim)


class GroupedQueryAttention(HeadedAttention):
    """`SdpaAttention`, but for the groups."""

    def attend(self, q: Queries, k: Keys, v: Values, bias: Bias | None) -> Queries:
        return kernel(q, k, v, bias, self.dropout)
