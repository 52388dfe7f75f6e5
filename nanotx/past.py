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
    """What one module has read of one batch of texts; empty at first, and grown by reading, not by training.

    Args:
        room: how many tokens it makes room for at once; beyond these the room is doubled when it is full.
    """

    gone = 0
    """How many tokens, older than all that it keeps, it has let go."""

    def __init__(self, room: int = 0) -> None:
        self.room = room
        self.length = 0  # how many tokens it keeps
        self._children: dict[int, Past] = {}
        self._keys: Tensor | None = None
        self._values: Tensor | None = None
        self._newest: Tensor | None = None

    def child(self, index: int) -> "Past":
        """The past of the module's part of this index."""
        if index not in self._children:
            self._children[index] = self.empty()
        return self._children[index]

    def empty(self) -> "Past":
        """Another of its kind that has read nothing."""
        return Past(self.room)

    def read(self, tokens: int) -> None:
        """Count tokens whose keys and values it keeps, or its children do."""
        self.length += tokens

    def extend(self, keys: New, values: New) -> tuple[All, All]:
        """Append new keys and values; returns all of them, the oldest first, as views that do not last."""
        start, end = self.length, self.length + keys.shape[-2]
        if self._keys is None or self._values is None or self._keys.shape[-2] < end:
            room = self.room if end <= self.room else 2 * end
            self._keys, self._values = _moved(self._keys, keys, start, room), _moved(self._values, values, start, room)
        every = self._keys[..., :end, :], self._values[..., :end, :]
        every[0][..., start:, :], every[1][..., start:, :] = keys, values
        self.read(end - start)
        return every

    def before(self, x: Tensor, count: int = 1) -> Tensor:
        """The `count` positions before those of `x` on its second axis, zeros where there were none; `x` is kept."""
        blank = x.new_zeros((x.shape[0], count, *x.shape[2:]))
        known = blank if self._newest is None else self._newest
        newest = torch.cat([known, x], dim=1)[:, -count:]
        self._newest = newest.clone(memory_format=torch.contiguous_format)  # a view would hold all that was read
        return known


def _moved(old: Tensor | None, new: Tensor, kept: int, room: int) -> Tensor:
    """A place with room for so many tokens, in which those kept stand first."""
    home = new.new_empty((*new.shape[:-2], room, new.shape[-1]))
    if old is not None:
        home[..., :kept, :] = old[..., :kept, :]
    return home
