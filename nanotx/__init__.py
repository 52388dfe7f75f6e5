"""nanotx: a modular transformer framework, written from scratch on PyTorch.

Nothing heavy is imported here, so that `nanotx --help` and the tokenizers answer without torch.
"""

import importlib
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nanotx.loaded import load as load

__version__ = "0.1.0"
started = time.perf_counter()  # as near as Python lets us to the start of the process


def __getattr__(name: str) -> Any:
    if name == "load":
        return importlib.import_module("nanotx.loaded").load
    if name in {"tokenizers", "laws"}:
        return importlib.import_module(f"nanotx.{name}")
    raise AttributeError(f"nanotx has no attribute {name!r}; it has: load, laws, tokenizers.")
