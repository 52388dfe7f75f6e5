"""Blocks: one layer of the transformer, an attention and a feed-forward with their norms."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from nanotx.config.registry import Slot, default_part
from nanotx.config.schema import check_fraction
from nanotx.errors import ConfigError
from nanotx.nn.attention import Attention
from nanotx.nn.dropout import Dropout
from nanotx.nn.ffn import Ffn
from nanotx.nn.norm import Norm


class Block(Slot, ABC, slot="block", package="nanotx.nn.block", group="nanotx.block"):
    """The block slot: a layer of the model, called as `forward(x, position=NO_POSITION, cache=None) -> x`."""

    supports_documents: ClassVar[bool] = False  # whether it reads no other token but through attention and `position`

    @property
    def attentions(self) -> tuple[Attention, ...]:
        """Attentions in the block; a position has to fit all of them."""
        return ()

    @property
    def attention_window(self) -> int | None:
        """Number of positions that an output depends on, up to and including its own; None for all of them."""
        return max_window(attention.attention_window for attention in self.attentions)

    @abstractmethod
    def build(self, dim: int) -> nn.Module:
        """Build the module for a stream of width `dim`."""


def max_window(windows: Iterable[int | None]) -> int | None:
    """Return the longest of several attention windows; None if one of them is unlimited."""
    windows = list(windows)
    return None if None in windows else max((window or 0 for window in windows), default=None)


@dataclass(frozen=True, kw_only=True)
class TwoBranches(Block):
    """Fields of a block with an attention and a feed-forward, each added to the stream."""

    supports_documents: ClassVar[bool] = True

    attention: Attention = default_part(Attention, "fused")
    ffn: Ffn = default_part(Ffn, "swiglu")
    norm: Norm = default_part(Norm, "rmsnorm")
    dropout: float = 0.0  # dropout rate of the output of each branch in training

    def __post_init__(self) -> None:
        check_fraction(self, "dropout")
        for name, slot, example in (("attention", Attention, "Sdpa"), ("ffn", Ffn, "Mlp"), ("norm", Norm, "RmsNorm")):
            part = getattr(self, name)
            if not isinstance(part, slot):
                got = (
                    f"the class {part.__name__}"
                    if isinstance(part, type)
                    else repr(part)
                    if isinstance(part, str)
                    else type(part).__name__
                )
                raise ConfigError(f"{name}: expected a config such as {example}(), got {got}.")

    @property
    def attentions(self) -> tuple[Attention, ...]:
        return (self.attention,)


class TwoBranchesBlock(nn.Module):
    """Modules of a block with two branches; a part defines how `forward` combines them."""

    def __init__(self, config: TwoBranches, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.attention_norm = config.norm.build(dim)
        self.attention = config.attention.build(dim)
        self.ffn_norm = config.norm.build(dim)
        self.ffn = config.ffn.build(dim)
        self.attention_dropout = Dropout(config.dropout)
        self.ffn_dropout = Dropout(config.dropout)
