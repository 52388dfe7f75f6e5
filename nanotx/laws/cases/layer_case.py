"""A layer under test: built from its config with random weights, a position and a random input."""

from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from nanotx.config.schema import fields
from nanotx.laws.law import Case
from nanotx.laws.weights import redraw, seeded
from nanotx.nn.attention import Attention, MultiHead
from nanotx.nn.attention.sdpa import Sdpa
from nanotx.nn.block import Block
from nanotx.nn.exact import Exact
from nanotx.nn.kv_cache import KVCache
from nanotx.nn.pass_store import StoreModule, connect
from nanotx.nn.position import NO_POSITION, Position, PositionalEncoding
from nanotx.nn.position.none import NoPosition
from nanotx.nn.shapes import Stream

TOLERANCES = {("cpu", "float32"): 1e-5, ("cuda", "float32"): 1e-4, ("mps", "float32"): 1e-4}
COARSE = 3e-2
"""The difference that outputs may have, relative to the largest (or 1), by device; COARSE in half precision."""


@dataclass(frozen=True, kw_only=True)
class LayerCase(Case):
    """A layer with random weights, and a random input for it."""

    dim: int = 1  # width of the stream
    batch: int = 1
    time: int = 1
    seed: int = 0  # of the weights and of the input
    scale: float = 1.0  # of the input
    extreme: float = 1.0  # of the input where a law holds at any scale; 0 is an input of zeros
    padding: float = 0.0  # scale of the padding
    cut: int = 0  # a position
    cuts: tuple[int, ...] = ()  # where the pieces but the first begin
    lengths: tuple[int, ...] = ()  # of the rows, where they differ
    position: Position = NoPosition()  # the position that an attention or a block is given
    device: str = "cpu"
    dtype: str = "float32"

    def layer(self, config: Any = None, shift: int = 0) -> nn.Module:
        """Return the layer, deterministic, its weights drawn anew so that no norm is left at one and no bias at zero.

        Raises:
            ConfigError: the parts do not fit one another.
        """
        return (
            self.first
            if config is None and not shift
            else self.another(self.config if config is None else config, shift)
        )

    @cached_property
    def first(self) -> nn.Module:
        """The layer with default arguments, built once: building it also shows whether the case fits."""
        return self.another(self.config, 0)

    def another(self, config: Any, shift: int) -> nn.Module:
        """Return a new layer."""
        with seeded(self.seed + shift):
            reads, layer = isinstance(config, Attention | Block), config.build(self.dim)
            if uses_store(layer):
                layer = TwoLayers(layer, config.build(self.dim), reads, not isinstance(config, Block))
            placed = PlacedLayer(redraw(layer, self.seed + shift), self.place(config), reads, self.device, self.dtype)
        return placed.to(self.device).eval()

    @property
    def attention_window(self) -> int | None:
        """The number of positions that the layer reads, if it reads the past at all."""
        window = attention_window_of(self.config)
        return 2 * window - 1 if window is not None and isinstance(self.first.layer, TwoLayers) else window

    def parameter_of_part(self, name: str) -> str:
        """Return the name of a parameter in its part, also if two layers of it are checked."""
        return name.partition(".")[2] if isinstance(self.first.layer, TwoLayers) else name

    def place(self, config: Any) -> PositionalEncoding:
        """Return the positional encoding of the layer."""
        attentions = attentions_of(config)
        for attention in attentions:
            attention.check_position(self.position)
        first = attentions[0] if attentions else Sdpa(heads=1)
        return first.build_position(self.position, self.dim, self.time)

    def x(self, scale: float | None = None, shift: int = 0) -> Stream:
        """Return the input."""
        generator = torch.Generator().manual_seed(self.seed + shift)
        x = torch.randn(self.batch, self.time, self.dim, generator=generator)
        return x.to(self.device) * (self.scale if scale is None else scale)

    def fits(self) -> None:
        for attention in attentions_of(self.config):
            attention.check_device(self.device)
        assert self.first

    @property
    def tolerance(self) -> float:
        """The difference that outputs may have, relative to the largest (or 1)."""
        return TOLERANCES[self.device, self.dtype] if self.dtype == "float32" else COARSE


def attentions_of(config: Any) -> tuple[Attention, ...]:
    """Return the attentions of a layer, which may be one itself."""
    return (config,) if isinstance(config, Attention) else config.attentions if isinstance(config, Block) else ()


def has_single_expert(config: Any) -> bool:
    """Return whether a router has a single expert, which is always chosen, so that the router has no gradient."""
    ffn = getattr(config, "ffn", config)
    return getattr(ffn, "experts", 0) == 1 or (
        isinstance(config, Block) and has_single_expert(getattr(config, "block", None))
    )


def has_single_numbers(case: LayerCase) -> bool:
    """Return whether a head is a single number: normed, it is a sign, which rounding flips."""
    heads = [attention for attention in attentions_of(case.config) if isinstance(attention, MultiHead)]
    return any(attention.head_dim == 1 or attention.heads == case.dim for attention in heads)


class PlacedLayer(Exact):
    """A layer as training runs it: with a position, and with its mathematics in a dtype of its own."""

    def __init__(self, layer: nn.Module, position: PositionalEncoding, reads: bool, device: str, dtype: str) -> None:
        super().__init__()
        self.layer, self.position, self.reads = layer, position, reads
        self.device, self.dtype = device, getattr(torch, dtype)

    def forward(self, x: Stream, cache: KVCache | None = None) -> Stream:
        mixed = torch.autocast(self.device, dtype=self.dtype) if self.dtype is not torch.float32 else nullcontext()
        with mixed:
            y: Tensor = self.layer(x, self.position, cache) if self.reads else self.layer(x)
        return y


class TwoLayers(nn.Module):
    """Two layers, in one pass, of a part that uses its store: the second reads what the first wrote."""

    def __init__(self, first: nn.Module, second: nn.Module, reads: bool, adds: bool) -> None:
        super().__init__()
        self.first, self.second, self.reads, self.adds = first, second, reads, adds
        self.store = connect(self)

    def forward(self, x: Stream, position: PositionalEncoding = NO_POSITION, cache: KVCache | None = None) -> Stream:
        assert self.store is not None
        caches = [None, None] if cache is None else [cache.layer(0), cache.layer(1)]
        with self.store.one_pass():
            y: Tensor = self.first(x, position, caches[0]) if self.reads else self.first(x)
            x = x + y if self.adds else y
            y = self.second(x, position, caches[1]) if self.reads else self.second(x)
        return y


def uses_store(layer: nn.Module) -> bool:
    """Return whether a module of a layer uses the store of a forward pass."""
    return any(isinstance(module, StoreModule) for module in layer.modules())


def attention_window_of(config: Any) -> int | None:
    """Return the number of positions that a layer reads, if it reads the past at all."""
    return config.attention_window if isinstance(config, Attention | Block) else None


def plainest_equivalent(config: Attention, length: int) -> Attention:
    """Return the simplest part that is the same function for texts of this length."""
    names = [name for name in ("fused", "per_head", *Attention.names()) if name != config.part]
    other = next(other for other in map(Attention.find, names) if other.equivalent_to == config.equivalent_at(length))
    shared = fields(other).keys() & fields(type(config)).keys()
    plain: Attention = other(**{name: getattr(config, name) for name in shared})
    return plain
