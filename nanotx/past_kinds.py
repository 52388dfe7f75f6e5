"""Pasts that can do more: one that lets the oldest tokens go, one that takes the newest back."""

import torch
from torch import Tensor

from nanotx.past import Past


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
