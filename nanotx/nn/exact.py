"""Keep constants exact: casting a model to a 16-bit dtype casts its weights, and none of its constants.

A constant that a module keeps as a buffer (rotation frequencies, slopes, tables) is multiplied by positions or added
to scores; in bfloat16, with 8 significant bits, positions 256 and 257 would be the same.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class Exact(nn.Module):
    """A module whose buffers, and those of its submodules, keep their precision when the module is cast."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:  # called by `to` and `half`
        modules = list(self.modules()) if recurse else [self]
        before = [(module._buffers, dict(module._buffers)) for module in modules]
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for buffers, originals in before:
            for name, old in originals.items():
                new = buffers[name]
                if old is not None and new is not None and torch.promote_types(old.dtype, new.dtype) != new.dtype:
                    buffers[name] = old.to(new.device)
        return self
