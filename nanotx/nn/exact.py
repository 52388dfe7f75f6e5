"""Constants stay exact: a model that is cast to half the bits casts its weights, and no constant.

A constant that a module keeps as a buffer (rates of turning, slopes, tables, masks of minus infinity) is multiplied by
positions, or added to scores; in bfloat16, with its 8 digits, positions 256 and 257 would be one.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class Exact(nn.Module):
    """A module in which no buffer, its own or of a module inside, loses digits when it is cast."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:  # what `to` and `half` come down to
        inside = list(self.modules()) if recurse else [self]
        before = [(module._buffers, dict(module._buffers)) for module in inside]
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for buffers, kept in before:
            for name, old in kept.items():
                new = buffers[name]
                if old is not None and new is not None and torch.promote_types(old.dtype, new.dtype) != new.dtype:
                    buffers[name] = old.to(new.device)
        return self
