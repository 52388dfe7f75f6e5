"""Sliding-window attention: a query attends only to the last few positions, up to and including its own.

Blocks of queries attend to the blocks of keys that their windows touch, so that work and memory are linear in the
length of the text. A `KVCache` keeps all keys; only those in the window are read.
Source: Beltagy et al. 2020, https://arxiv.org/abs/2004.05150, section 3.1
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from einops import rearrange, repeat
from torch import nn

from nanotx.config.schema import check_min
from nanotx.nn.attention.base import SOFTMAX, Attention, Bias, MultiHead, MultiHeadAttention, of_texts
from nanotx.nn.dropout import Dropout
from nanotx.nn.shapes import Keys, Mask, Queries, Values


@Attention.register("sliding_window")
@dataclass(frozen=True, kw_only=True)
class SlidingWindow(MultiHead):
    """Attention within a window that moves with the query."""

    supports_documents: ClassVar[bool] = True
    cost_only: ClassVar[tuple[str, ...]] = ("block",)

    window: int = 128  # number of positions that a query attends to, including its own
    block: int = 128  # number of queries per block

    def __post_init__(self) -> None:
        super().__post_init__()
        check_min(self, 1, "window", "block")

    @property
    def attention_window(self) -> int:
        return self.window

    def equivalent_at(self, length: int) -> str:
        return SOFTMAX if length <= self.window else ""

    def build(self, dim: int) -> nn.Module:
        return SlidingWindowAttention(self, dim)


class SlidingWindowAttention(MultiHeadAttention):
    """softmax(Q K^T / sqrt(k)) V, block by block, with the keys in reach of the window."""

    config: SlidingWindow

    def attend(self, q: Queries, k: Keys, v: Values, bias: Bias | None) -> Queries:
        return within_window(q, k, v, bias, self.config.window, self.config.block, self.dropout)


def within_window(
    q: Queries, k: Keys, v: Values, bias: Bias | None, window: int, block: int, dropout: Dropout
) -> Queries:
    """Return the attention output of each query within a window, block by block.

    Args:
        q, k, v, bias: as of `attend`; neighbouring queries share keys and values where these have fewer heads.
        window: number of positions that a query attends to, including its own.
        block: number of queries per block.
        dropout: of the weights.
    """
    (texts, heads), sharing = q.shape[:2], q.shape[1] // k.shape[1]
    q, k, v = (rearrange(x, "b h t k -> (b h) t k") for x in (q / math.sqrt(q.shape[-1]), k, v))
    start, end, outputs = 0, k.shape[1] - q.shape[1], []
    blocks = q.split(block, dim=1)
    sizes = [min(end, window - 1), *(rows.shape[1] for rows in blocks)]  # cached keys first
    keys, values = (x[:, -sum(sizes) :].split(sizes, dim=1) for x in (k, v))
    for index, rows in enumerate(blocks):
        near = slice(max(0, index + 1 - math.ceil((window - 1) / block)), index + 2)
        k, v = (repeat(torch.cat(x[near], dim=1), "n s k -> (n m) s k", m=sharing) for x in (keys, values))
        t, s, end = rows.shape[1], k.shape[1], end + rows.shape[1]
        added = rows.new_zeros(1, t, s)
        if bias is not None:
            added = of_texts(bias[..., start : start + t, end - s : end].type_as(rows), texts, heads)
        added = added.masked_fill(~in_window(t, s, window, q.device), -torch.inf)
        scores = torch.baddbmm(added, rows, rearrange(k, "n s k -> n k s"))
        weights = rearrange(scores.softmax(dim=-1).type_as(v), "(b h) t s -> b h t s", b=texts)
        weights = rearrange(dropout(weights, start=(0, start, end - s)), "b h t s -> (b h) t s")
        outputs.append(rearrange(torch.bmm(weights, v), "(b h) t k -> b t h k", b=texts))
        start += t
    return rearrange(torch.cat(outputs, dim=1), "b t h k -> b h t k")


def in_window(t: int, s: int, window: int, device: torch.device) -> Mask:
    """Return which of `s` keys each of the last `t` positions may attend to: the last `window` up to its own."""
    k_pos = torch.arange(s, device=device)
    distance = rearrange(k_pos[s - t :], "t -> t 1") - rearrange(k_pos, "s -> 1 s")
    return (distance >= 0) & (distance < window)
