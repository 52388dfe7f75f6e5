"""nanotx: a modular transformer framework, written from scratch on PyTorch.

Nothing heavy is imported here, so that `nanotx --help` and the tokenizers answer without torch.
"""

import importlib
import sys
import time
from typing import TYPE_CHECKING, Any

if sys.version_info < (3, 11):  # noqa: UP036  pip refuses; this is for a checkout, so the file avoids newer syntax
    problem = (
        f"nanotx needs Python 3.11 or later, and {sys.executable} is Python {sys.version.split()[0]}; create an "
        "environment with a newer one: python3.11 -m venv .venv"
    )
    if sys.argv[:1] == ["-m"]:  # python -m nanotx: no traceback
        sys.stderr.write(f"{problem}\n")
        raise SystemExit(2)
    raise ImportError(problem)

if TYPE_CHECKING:
    from nanotx.cli.run import train as train
    from nanotx.generation import generate as generate
    from nanotx.hub.loading import load as load
    from nanotx.recipe import Recipe as Recipe
    from nanotx.training.callbacks import Callback as Callback

FROM = {
    "Callback": "nanotx.training.callbacks",
    "Recipe": "nanotx.recipe",
    "generate": "nanotx.generation",
    "load": "nanotx.hub.loading",
    "train": "nanotx.cli.run",
}
PACKAGES = ("laws", "nn", "tokenizers")
__all__ = [*FROM, *PACKAGES, "__version__"]  # noqa: PLE0604
__version__ = "0.2.0"
started = time.perf_counter()  # as near as Python lets us to the start of the process


def __getattr__(name: str) -> Any:
    if name in FROM:
        return getattr(importlib.import_module(FROM[name]), name)
    if name in PACKAGES:
        return importlib.import_module(f"nanotx.{name}")
    raise AttributeError(f"nanotx has no attribute {name!r}; it has: {', '.join([*FROM, *PACKAGES])}.")


def __dir__() -> list[str]:
    return __all__
