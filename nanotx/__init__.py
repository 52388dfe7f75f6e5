"""nanotx: a modular transformer framework, written from scratch on PyTorch.

Nothing heavy is imported here, so that `nanotx --help` and the tokenizers answer without torch.
"""

import importlib
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nanotx.cli.run import train as train
    from nanotx.generation import generate as generate
    from nanotx.recipe import Recipe as Recipe
    from nanotx.runs.load import load as load
    from nanotx.training.callbacks import Callback as Callback

FROM = {
    "Callback": "nanotx.training.callbacks",
    "Recipe": "nanotx.recipe",
    "generate": "nanotx.generation",
    "load": "nanotx.runs.load",
    "train": "nanotx.cli.run",
}
PACKAGES = ("laws", "tokenizers")
__version__ = "0.1.0"
started = time.perf_counter()  # as near as Python lets us to the start of the process


def __getattr__(name: str) -> Any:
    if name in FROM:
        return getattr(importlib.import_module(FROM[name]), name)
    if name in PACKAGES:
        return importlib.import_module(f"nanotx.{name}")
    raise AttributeError(f"nanotx has no attribute {name!r}; it has: {', '.join([*FROM, *PACKAGES])}.")
