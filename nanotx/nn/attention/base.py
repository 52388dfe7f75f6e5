"""Attention: how a position attends to those before it.

A part is a frozen dataclass; the module it builds is called as `forward(x, position, cache)`. What attentions share
(projections to heads, position, cache, merging) is in `MultiHeadAttention`; a part adds only the mathematics, `attend`.

The scores are computed in each part's `attend`:

- `sdpa` and `gqa` call PyTorch's kernel through `kernel.py`; `flex` compiles a kernel of its own.
- `fused`, `online_softmax`, `blockwise`, `sliding_window` and `sliding_gqa` write the mathematics out; so does
  `per_head`, in `Head`.
- `linear` has no scores.

A cap on the scores would go there, part by part. `Model.softcap` caps the logits of the head, not these scores.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from nanotx.config.registry import Slot
from nanotx.config.schema import check_fraction, check_max, check_min, divisors, nearest
from nanotx.errors import ConfigError
from nanotx.nn.arguments import check_arguments, check_heads
from nanotx.nn.dropout import Dropout
from nanotx.nn.kv_cache import KVCache
from nanotx.nn.linear import Linear
from nanotx.nn.norm.rmsnorm import RmsNorm
from nanotx.nn.position import NO_POSITION, Position, PositionalEncoding
from nanotx.nn.shapes import KeyPositions, Keys, Mask, Positions, Queries, Stream, Values

Bias = Float[Tensor, "*texts #h t s"]
"""What a position adds to the scores of each head; between documents it differs from text to text."""

AttendHook = Callable[[Queries, Keys, Values, Bias | None], None]
"""Called with the arguments of `attend`, just before it; it must not change them."""


class Attention(
    Slot, ABC, slot="attention", package="nanotx.nn.attention", group="nanotx.attention", shared=("base", "kernel")
):
    """The attention slot: a causal map from stream to stream in which positions attend to one another."""

    heads: int = 1
    equivalent_to: ClassVar[str] = ""  # a function's name: parts that compute it are equivalent, and share weights
    trains_on: ClassVar[tuple[str, ...]] = ("cpu", "cuda", "mps")
    supports_bias: ClassVar[bool] = True  # whether a position may add a bias to its scores
    supports_documents: ClassVar[bool] = False  # whether that bias may be of each text, which keeps documents apart

    @property
    def attention_window(self) -> int | None:
        """Number of positions that a query attends to, up to and including its own; None for all of them."""
        return None

    def equivalent_at(self, length: int) -> str:
        """Return the name of the function that it computes for texts up to this length; empty if no other part does."""
        return self.equivalent_to

    def check_device(self, device: str) -> None:
        """Raise ConfigError if it cannot be trained on this type of device."""
        if device not in self.trains_on:
            there = " or ".join(self.trains_on)
            raise ConfigError(f"{self.part}: does not train on {device}, but on {there}; try --attention sdpa.")

    def check_position(self, position: Position) -> None:
        """Raise ConfigError if the position adds a bias to scores, and this attention computes no scores."""
        if position.adds_bias and not self.supports_bias:
            raise ConfigError(
                f"{self.part}: has no scores for position {position.part!r} to add to; try --position rope or "
                "--position none."
            )

    def heads_width(self, dim: int) -> int:
        """Return the width of all heads together, in a stream of width `dim`."""
        return dim

    def position_width(self, position: Position, dim: int) -> int:
        """Return the width for which a position of these heads is built.

        Raises:
            ConfigError: the position does not fit these heads.
        """
        return dim

    def build_position(self, position: Position, dim: int, context: int) -> PositionalEncoding:
        """Build a position for these heads; see `Position.build` and `position_width`."""
        return position.build(self.position_width(position, dim), self.heads, context)

    @abstractmethod
    def build(self, dim: int) -> nn.Module:
        """Build the module for a stream of width `dim`: `forward(x, position=NO_POSITION, cache=None) -> x`.

        Raises:
            ConfigError: the part does not fit this width; the message names widths that it fits.
        """


@dataclass(frozen=True, kw_only=True)
class MultiHead(Attention):
    """Fields of an attention of several heads."""

    heads: int = 4  # number of heads
    head_dim: int | None = None  # width of a head; None is dim // heads
    dropout: float = 0.0  # dropout rate of the attention weights in training
    bias: bool = False  # learn a bias in the projections to queries, keys and values
    out_bias: bool = False  # learn a bias in the output projection
    qk_norm: bool = False  # normalise queries and keys by rmsnorm, which bounds the attention scores

    def __post_init__(self) -> None:
        check_min(self, 1, "heads")
        check_max(self, 4096, "heads")
        check_min(self, 1, "head_dim")
        check_max(self, 2**16, "head_dim")
        check_fraction(self, "dropout")

    @property
    def kv_heads(self) -> int:
        """Number of key and value heads; query heads share them evenly."""
        return self.heads

    def head_width(self, dim: int) -> int:
        """Return the width of one head.

        Raises:
            ConfigError: the heads do not divide the width of the stream, and have none of their own.
        """
        if self.head_dim is not None:
            return self.head_dim
        if dim % self.heads:
            fit, pair = divisors(dim), 2 * self.heads
            even = [heads for heads in fit if dim // heads % 2 == 0]  # rope halves the width of a head
            other = f"--attention.heads {nearest(self.heads, even)} or " if even else ""
            raise ConfigError(
                f"{self.part}: heads={self.heads} do not divide dim={dim}; try heads from {fit}, or another width; as "
                f"flags, {other}--model.dim {-(-dim // pair) * pair}."
            )
        return dim // self.heads

    def heads_width(self, dim: int) -> int:
        return dim if self.head_dim is None else self.heads * self.head_dim

    def position_width(self, position: Position, dim: int) -> int:
        """Return the width for which a position of these heads is built.

        Raises:
            ConfigError: it rotates pairs of channels, and the heads have an odd width of their own.
        """
        if not position.rotates or self.head_dim is None:
            return dim
        if self.head_dim % 2:
            raise ConfigError(
                f"{self.part}: head_dim={self.head_dim} leaves a channel without a pair, and position "
                f"{position.part!r} rotates pairs; try --attention.head-dim {self.head_dim + 1}."
            )
        return self.heads_width(dim)

    def head_norm(self, dim: int) -> nn.Module:
        """Build the norm of the queries, or of the keys, of each head.

        Source: Henry et al. 2020, https://arxiv.org/abs/2010.04245; root mean square with learned weights, as in
        OLMo 2, https://arxiv.org/abs/2501.00656, section 3.2, here per head.
        """
        return RmsNorm().build(self.head_width(dim)) if self.qk_norm else nn.Identity()


class MultiHeadAttention(nn.Module, ABC):
    """Everything about an attention but its mathematics. Its weights are in the canonical layout."""

    def __init__(self, config: MultiHead, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.config = config
        width = config.head_width(dim)
        self.to_qkv = Linear(dim, (config.heads + 2 * config.kv_heads) * width, bias=config.bias)
        self.q_norm, self.k_norm = config.head_norm(dim), config.head_norm(dim)
        self.dropout = Dropout(config.dropout)  # on the attention weights, "b h t s"
        self.to_out = Linear(config.heads * width, dim, bias=config.out_bias)
        self.attend_hooks: list[AttendHook] = []  # hooks of observers, such as nanotx.lens

    def forward(self, x: Stream, position: PositionalEncoding = NO_POSITION, cache: KVCache | None = None) -> Stream:
        check_arguments(self, x, self.dim, position, cache)
        heads, kv_heads = self.config.heads, self.config.kv_heads
        qkv = rearrange(self.to_qkv(x), "b t (n k) -> b t n k", n=heads + 2 * kv_heads)
        q, k, v = (rearrange(proj, "b t n k -> b n t k") for proj in qkv.split([heads, kv_heads, kv_heads], dim=2))
        q_pos, k_pos = positions(x, cache)
        q, k = position.rotate(self.q_norm(q), self.k_norm(k), q_pos)
        if cache is not None:
            k, v = cache.append(k, v)
        bias = position.bias(q_pos, k_pos)
        check_heads(self, bias, heads)
        for hook in self.attend_hooks:
            hook(q, k, v, bias)
        y = self.attend(q, k, v, bias)
        return self.to_out(rearrange(y, "b h t k -> b t (h k)"))

    @abstractmethod
    def attend(self, q: Queries, k: Keys, v: Values, bias: Bias | None) -> Queries:
        """Return the attention output of each query; the last query has the position of the last key.

        Args:
            q: queries of the newest positions.
            k: keys of all positions so far, oldest first, with `kv_heads` heads.
            v: values of the same positions.
            bias: what to add to the scores, or None.
        """


def positions(x: Stream, cache: KVCache | None) -> tuple[Positions, KeyPositions]:
    """Return the positions of the stream's tokens, and those of all keys, cached and new."""
    length, evicted = (cache.length, cache.evicted) if cache is not None else (0, 0)
    k_pos = torch.arange(evicted, evicted + length + x.shape[1], device=x.device)
    return k_pos[length:], k_pos


def causal_mask(t: int, s: int, device: torch.device) -> Mask:
    """Return which of `s` keys each of the last `t` positions may attend to: those up to its own."""
    k_pos = torch.arange(s, device=device)
    return rearrange(k_pos[s - t :], "t -> t 1") >= rearrange(k_pos, "s -> 1 s")


def of_texts(bias: Bias, texts: int, heads: int) -> Float[Tensor, "n t s"]:
    """Return a bias for each head of each text, on one axis, whether the texts have one bias or one each."""
    return rearrange(bias.expand(texts, heads, *bias.shape[-2:]), "b h t s -> (b h) t s")


SOFTMAX = "softmax(Q K^T / sqrt(k)) V"
"""The function that most attentions compute: a run trained with one of them can be resumed with another."""
