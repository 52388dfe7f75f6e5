"""Keys and values already read (the KV cache), kept outside the attention's mathematics.

A `Past` is a tree with the shape of the model: the model's node counts the tokens read, and each layer (and
each head, where heads are modules) keeps its keys and values in a child.
"""

import torch
from jaxtyping import Float
from torch import Tensor

New = Float[Tensor, "... t k"]
All = Float[Tensor, "... s k"]


class Past:
    """What one module has read of one batch of texts; empty at first, and grown by reading, not by training."""

    def __init__(self) -> None:
        self.length = 0
        self._children: dict[int, Past] = {}
        self._keys: Tensor | None = None
        self._values: Tensor | None = None
        self._newest: Tensor | None = None

    def child(self, index: int) -> "Past":
        """The past of the module's part of this index."""
        return self._children.setdefault(index, Past())

    def read(self, tokens: int) -> None:
        """Count tokens whose keys and values the children keep."""
        self.length += tokens

    def extend(self, keys: New, values: New) -> tuple[All, All]:
        """Append new keys and values; returns all of them, the oldest first, as views that do not last."""
        start, self.length = self.length, self.length + keys.shape[-2]
        if self._keys is None or self._values is None or self._keys.shape[-2] < self.length:
            self._keys = _grown(self._keys, keys, start)
            self._values = _grown(self._values, values, start)
        self._keys[..., start : self.length, :] = keys
        self._values[..., start : self.length, :] = values
        return self._keys[..., : self.length, :], self._values[..., : self.length, :]

    def before(self, x: Tensor, count: int = 1) -> Tensor:
        """The `count` positions before those of `x` on its second axis, zeros where there were none; `x` is kept."""
        blank = x.new_zeros((x.shape[0], count, *x.shape[2:]))
        known = blank if self._newest is None else self._newest
        self._newest = torch.cat([known, x], dim=1)[:, -count:]
        return known


def _grown(old: Tensor | None, new: Tensor, start: int) -> Tensor:
    """Room for twice what is needed, so that reading token by token copies each key a bounded number of times."""
    room = new.new_empty((*new.shape[:-2], 2 * (start + new.shape[-2]), new.shape[-1]))
    if old is not None:
        room[..., :start, :] = old[..., :start, :]
    return room
