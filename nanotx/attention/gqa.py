"""Grouped-query attention: heads share the keys and values of a few groups, so that a past takes less memory.

groups = heads is `sdpa`; groups = 1 is multi-query attention. Neighbouring heads share a group.
Source: Ainslie et al. 2023, https://arxiv.org/abs/2305.13245, section 2.2
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from nanotx.attention import Attention, Bias, Headed, HeadedAttention, seen
from nanotx.config import at_least
from nanotx.errors import ConfigError
from nanotx.shapes import Keys, Queries, Values


@Attention.register("gqa")
@dataclass(frozen=True, kw_only=True)
class GroupedQuery(Headed):
    """The library's kernel, with fewer keys and values than heads."""

    groups: int = 2  # how many keys and values at a position; they divide the heads

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 1, "groups")
        if self.heads % self.groups:
            fit = [groups for groups in range(1, self.heads + 1) if self.heads % groups == 0]
            raise ConfigError(f"gqa: heads={self.heads} cannot share groups={self.groups}; try groups from {fit}.")

    def build(self, dim: int) -> nn.Module:
        return GroupedQueryAttention(self, dim)


class GroupedQueryAttention(HeadedAttention):
    """`SdpaAttention`, but for the groups; what is said there of the mask holds here."""

    def attend(self, q: Queries, k: Keys, v: Values, bias: Bias | None) -> Queries:
        t, s = q.shape[2], k.shape[2]
        mask, causal = None, False
        if bias is not None:
            mask = bias.type_as(q).masked_fill(~seen(t, s, q.device), -torch.inf)
        elif t == s:
            causal = True
        elif t > 1:
            mask = seen(t, s, q.device)
        return scaled_dot_product_attention(
            q, k, v, attn_mask=mask, dropout_p=self.dropout, is_causal=causal, enable_gqa=True
        )
