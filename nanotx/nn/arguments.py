"""Check what a layer is called with, so that a layer used alone names what is wrong in one sentence."""

import torch
from torch import Tensor, nn

from nanotx.config.registry import Slot
from nanotx.errors import ConfigError
from nanotx.nn.kv_cache import KVCache
from nanotx.nn.position.base import NO_POSITION, PositionalEncoding


def check_arguments(
    layer: nn.Module, x: object, dim: int, position: object = NO_POSITION, cache: object = None
) -> None:
    """Raise ConfigError unless a layer can be called with these; nothing is checked while it is compiled.

    Args:
        layer: an attention or a block.
        x: the stream.
        dim: the width that the layer was built for.
        position: the positional encoding.
        cache: the KV cache, or None.
    """
    if torch.compiler.is_compiling():
        return
    right = isinstance(x, Tensor) and x.ndim == 3 and x.shape[2] == dim and x.dtype.is_floating_point
    if right and isinstance(position, PositionalEncoding) and (cache is None or isinstance(cache, KVCache)):
        return
    name, problem = type(layer).__name__, stream_problem(x, dim)
    raise ConfigError(f"{name}: {problem or position_problem(position) or cache_problem(cache)}")


def check_width(layer: nn.Module, x: object, dim: int) -> None:
    """Raise ConfigError unless the last axis of a tensor has the width that a feed-forward was built for."""
    if torch.compiler.is_compiling() or (isinstance(x, Tensor) and x.ndim and x.shape[-1] == dim):
        return
    raise ConfigError(f"{type(layer).__name__}: {stream_problem(x, dim)}")


def check_heads(layer: nn.Module, bias: Tensor | None, heads: int) -> None:
    """Raise ConfigError unless the bias of a position is for as many heads as the attention has."""
    if bias is not None and bias.shape[-3] not in (1, heads):
        raise ConfigError(
            f"{type(layer).__name__}: its position was built for {bias.shape[-3]} heads, and it has {heads}; build the "
            f"position with heads={heads}."
        )


def stream_problem(x: object, dim: int) -> str:
    """Return what is wrong with a stream; empty for nothing."""
    wanted = f"expected a stream of floats with the axes b t d (batch, time, width {dim})"
    if not isinstance(x, Tensor):
        return f"{wanted}, got {type(x).__name__}; make it a tensor, such as torch.randn(2, 10, {dim})."
    got = f"got {str(x.dtype).removeprefix('torch.')} of shape {tuple(x.shape)}"
    if not x.dtype.is_floating_point:
        return f"{wanted}, {got}; ids of tokens are embedded first, such as by torch.nn.Embedding(vocab_size, {dim})."
    if x.ndim == 2 and x.shape[1] == dim:
        return f"{wanted}, {got}; a single text is a batch of one: x[None]."
    if x.ndim != 3:
        return f"{wanted}, {got}; bring it to three axes by einops.rearrange."
    if x.shape[2] != dim:
        return f"{wanted}, {got}; build the layer with dim={x.shape[2]}, or bring the stream to width {dim}."
    return ""


def position_problem(position: object) -> str:
    """Return what is wrong with a position; empty for nothing."""
    if isinstance(position, PositionalEncoding):
        return ""
    built = "Rope().build(dim=64, heads=4, context=128)"
    if isinstance(position, Slot):
        return f"position: got the config {type(position).__name__}, which is built first, such as {built}."
    if isinstance(position, KVCache):
        return "position: got a KVCache, which is the third argument: layer(x, NO_POSITION, cache)."
    return f"position: expected a module such as {built}, or NO_POSITION, got {type(position).__name__}."


def cache_problem(cache: object) -> str:
    """Return what is wrong with a cache; empty for nothing."""
    got = f"the class {cache.__name__}" if isinstance(cache, type) else type(cache).__name__
    return f"cache: expected KVCache(), or its layer(index) where there are several blocks, or None, got {got}."
