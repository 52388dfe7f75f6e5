"""The KV cache: keys and values already read, kept outside the attention's mathematics.

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


class Rolling(Past):
    """A past of bounded size without end: the next token looks at `window` tokens, itself the last of them.

    What it holds beyond that is a quarter, in which new keys are put down until all that is kept moves to a new place.
    """

    def __init__(self, window: int) -> None:
        super().__init__(room=window + max(1, window // 4))
        self.window = window

    def empty(self) -> "Rolling":
        return Rolling(self.window)

    def read(self, tokens: int) -> None:
        super().read(tokens)
        old = self.length - (self.window - 1)
        if old > 0:
            self.length, self.gone = self.length - old, self.gone + old
            if self._keys is not None and self._values is not None:
                self._keys, self._values = self._keys[..., old:, :], self._values[..., old:, :]


class Undoable(Past):
    """A past whose newest tokens, up to `undo` of them, can be taken back."""

    def __init__(self, room: int, undo: int) -> None:
        super().__init__(room)
        self.undo = undo

    def empty(self) -> "Undoable":
        return Undoable(self.room, self.undo)

    def before(self, x: Tensor, count: int = 1) -> Tensor:
        blank = x.new_zeros((x.shape[0], count, *x.shape[2:]))
        known = blank if self._newest is None else self._newest
        self._newest = torch.cat([known, x], dim=1)[:, -(count + self.undo) :]
        return known[:, -count:]

    def rewind(self, tokens: int) -> None:
        """Take back the newest tokens, as if they had never been read.

        Raises:
            ValueError: they are more than can be taken back.
        """
        if tokens > self.undo:
            raise ValueError(f"past: expected to take back at most undo={self.undo} tokens, got {tokens}.")
        self.length = max(0, self.length - tokens)  # nothing is counted where only `before` is asked
        if self._newest is not None:
            self._newest = self._newest[:, : self._newest.shape[1] - tokens]
        for child in self._children.values():
            assert isinstance(child, Undoable)
            child.rewind(tokens)
