"""The KV cache: keys and values of the tokens so far, kept outside the attention's mathematics.

A `KVCache` is a tree with the shape of the model: the root counts the tokens, and each layer (and each head, where
heads are modules) keeps its keys and values in a cache of its own.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from nanotx.errors import ConfigError

New = Float[Tensor, "... t k"]
All = Float[Tensor, "... s k"]


class KVCache:
    """Cache of one module for one batch of texts; empty at first, and filled in evaluation, not in training.

    Args:
        capacity: how many tokens to reserve memory for; beyond these it is doubled whenever it is full.
    """

    evicted = 0
    """The number of tokens evicted so far, all older than the cached ones."""

    def __init__(self, capacity: int = 0) -> None:
        self.capacity = capacity
        self.length = 0  # how many tokens are cached
        self._layers: dict[int, KVCache] = {}
        self._keys: Tensor | None = None
        self._values: Tensor | None = None
        self._newest: Tensor | None = None

    def layer(self, index: int) -> "KVCache":
        """Return the cache of the submodule at `index`."""
        if index not in self._layers:
            self._layers[index] = self.new_like()
        return self._layers[index]

    def new_like(self) -> "KVCache":
        """Return an empty cache of the same kind."""
        return KVCache(self.capacity)

    def advance(self, tokens: int) -> None:
        """Count tokens whose keys and values are cached here or in the layers."""
        self.length += tokens

    def append(self, keys: New, values: New) -> tuple[All, All]:
        """Append new keys and values; return all of them, oldest first, as views valid until the next call."""
        start, end = self.length, self.length + keys.shape[-2]
        if self._keys is not None and self._keys.shape[:-2] != keys.shape[:-2]:
            raise ConfigError(cache_mismatch(self._keys, keys))
        if self._keys is None or self._values is None or self._keys.shape[-2] < end:
            capacity = self.capacity if end <= self.capacity else 2 * end
            self._keys, self._values = (
                _reallocated(self._keys, keys, start, capacity),
                _reallocated(self._values, values, start, capacity),
            )
        both = self._keys[..., :end, :], self._values[..., :end, :]
        both[0][..., start:, :], both[1][..., start:, :] = keys, values
        self.advance(end - start)
        return both

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors of the cache and its layers by name, such as `2.keys`, `2.values` and `2.newest`."""
        own = {"keys": self._keys, "values": self._values, "newest": self._newest}
        tensors = {name: tensor for name, tensor in own.items() if tensor is not None}
        for index, layer in self._layers.items():
            tensors |= {f"{index}.{name}": tensor for name, tensor in layer.tensors().items()}
        return tensors

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Tensor], length: int, capacity: int) -> "KVCache":
        """Return a cache of `length` tokens with these tensors, as `tensors` names them; keys are not copied."""
        root = cls(capacity)
        root.length = length
        for name, tensor in tensors.items():
            *path, kind = name.split(".")
            cache = root
            for index in path:
                cache = cache.layer(int(index))
            if kind == "keys":
                cache._keys, cache.length = tensor, length
            elif kind == "values":
                cache._values = tensor
            else:
                cache._newest = tensor
        return root

    def update(self, newest: Mapping[str, Tensor], tokens: int = 1) -> None:
        """Count tokens whose keys and values were written into `tensors` already, and replace the newest positions."""
        for name, tensor in newest.items():
            *path, _ = name.split(".")
            cache = self
            for index in path:
                cache = cache.layer(int(index))
            cache._newest = tensor
        self._count(tokens)
        if self._keys is None:
            self.advance(tokens)

    def _count(self, tokens: int) -> None:
        if self._keys is not None:
            self.advance(tokens)
        for layer in self._layers.values():
            layer._count(tokens)

    def previous(self, x: Tensor, count: int = 1) -> Tensor:
        """Return the `count` positions before `x` on its second axis, zeros before the first; remember `x`."""
        blank = x.new_zeros((x.shape[0], count, *x.shape[2:]))
        known = blank if self._newest is None else self._newest
        newest = torch.cat([known, x], dim=1)[:, -count:]
        self._newest = newest.clone(memory_format=torch.contiguous_format)  # a view would keep the whole tensor alive
        return known


def cache_mismatch(cached: Tensor, new: Tensor) -> str:
    """Return why keys cannot be appended to those of a cache."""
    if cached.shape[0] != new.shape[0]:
        return (
            f"KVCache: it holds {cached.shape[0]} texts, and now there are {new.shape[0]}; begin a new cache for "
            "other texts."
        )
    return (
        f"KVCache: filled by an attention with other heads (keys {tuple(cached.shape)}, and now {tuple(new.shape)}); "
        "give each attention a cache of its own, cache.layer(index)."
    )


def _reallocated(old: Tensor | None, new: Tensor, length: int, capacity: int) -> Tensor:
    """Return a buffer for `capacity` tokens that begins with the first `length` of `old`."""
    buffer = new.new_empty((*new.shape[:-2], capacity, new.shape[-1]))
    if old is not None:
        buffer[..., :length, :] = old[..., :length, :]
    return buffer


class RollingKVCache(KVCache):
    """A KV cache of bounded size for texts of any length: the next token attends to `window` tokens, itself included.

    A quarter more is reserved, so that the kept keys are copied once per quarter window and not at every token.
    """

    def __init__(self, window: int) -> None:
        super().__init__(capacity=window + max(1, window // 4))
        self.window = window

    def new_like(self) -> "RollingKVCache":
        return RollingKVCache(self.window)

    def advance(self, tokens: int) -> None:
        super().advance(tokens)
        old = self.length - (self.window - 1)
        if old > 0:
            self.length, self.evicted = self.length - old, self.evicted + old
            if self._keys is not None and self._values is not None:
                self._keys, self._values = self._keys[..., old:, :], self._values[..., old:, :]


class RewindableKVCache(KVCache):
    """A KV cache whose newest tokens, up to `undo` of them, can be removed again."""

    def __init__(self, capacity: int, undo: int) -> None:
        super().__init__(capacity)
        self.undo = undo

    def new_like(self) -> "RewindableKVCache":
        return RewindableKVCache(self.capacity, self.undo)

    def previous(self, x: Tensor, count: int = 1) -> Tensor:
        blank = x.new_zeros((x.shape[0], count, *x.shape[2:]))
        known = blank if self._newest is None else self._newest
        self._newest = torch.cat([known, x], dim=1)[:, -(count + self.undo) :]
        return known[:, -count:]

    def rewind(self, tokens: int) -> None:
        """Remove the newest tokens, as if they had never been appended.

        Raises:
            ValueError: `tokens` is more than `undo`.
        """
        if tokens > self.undo:
            raise ValueError(f"cache: expected to rewind at most undo={self.undo} tokens, got {tokens}.")
        self.length = max(0, self.length - tokens)  # it stays 0 in a cache where only `previous` is called
        if self._newest is not None:
            self._newest = self._newest[:, : self._newest.shape[1] - tokens]
        for layer in self._layers.values():
            assert isinstance(layer, RewindableKVCache)
            layer.rewind(tokens)
