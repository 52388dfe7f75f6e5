"""Blocks: one layer of the transformer, reading (attention) and then thinking (feed-forward)."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from nanotx.config.registry import Slot, default_part
from nanotx.config.schema import check_fraction
from nanotx.nn.attention import Attention
from nanotx.nn.dropout import Dropout
from nanotx.nn.ffn import Ffn
from nanotx.nn.norm import Norm


class Block(Slot, ABC, slot="block", package="nanotx.nn.block", group="nanotx.block"):
    """The slot: a layer of the model, called as `forward(x, position=NO_POSITION, cache=None) -> x`."""

    @property
    def attentions(self) -> tuple[Attention, ...]:
        """Those in it; a position has to fit them."""
        return ()

    @property
    def attention_window(self) -> int | None:
        """How many positions one of its outputs looks at, its own the last of them; None for all up to its own."""
        return max_window(attention.attention_window for attention in self.attentions)

    @abstractmethod
    def build(self, dim: int) -> nn.Module:
        """The module, for a stream of width `dim`."""


def max_window(windows: Iterable[int | None]) -> int | None:
    """Return the longest of several attention windows; None where one of them has no end."""
    windows = list(windows)
    return None if None in windows else max((window or 0 for window in windows), default=None)


@dataclass(frozen=True, kw_only=True)
class TwoBranches(Block):
    """The fields of a block with an attention and a feed-forward, each added to the stream."""

    attention: Attention = default_part(Attention, "fused")
    ffn: Ffn = default_part(Ffn, "swiglu")
    norm: Norm = default_part(Norm, "rmsnorm")
    dropout: float = 0.0  # on what each branch adds to the stream, while training

    def __post_init__(self) -> None:
        check_fraction(self, "dropout")

    @property
    def attentions(self) -> tuple[Attention, ...]:
        return (self.attention,)


class TwoBranchesBlock(nn.Module):
    """The modules of such a block; how they are put together is the part's to say."""

    def __init__(self, config: TwoBranches, dim: int) -> None:
        super().__init__()
        self.attention_norm = config.norm.build(dim)
        self.attention = config.attention.build(dim)
        self.ffn_norm = config.norm.build(dim)
        self.ffn = config.ffn.build(dim)
        self.dropout = Dropout(config.dropout)
