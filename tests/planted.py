"""Mutants, in their slots for the time of a test, and nowhere else."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from nanotx.config.registry import load_file
from nanotx.laws.all_laws import SLOTS

MUTANTS = Path(__file__).resolve().parent / "mutants"


@lru_cache
def brought(name: str) -> tuple[ModuleType, dict[str, Any]]:
    """A file of mutants, imported once, and its parts by slot/name; they are taken out again."""
    file = MUTANTS / f"{name}.py"
    load_file(file)
    named = (item for name, item in sys.modules.items() if not name.startswith("mutants."))  # tests import some by name
    (module,) = (item for item in named if getattr(item, "__file__", None) == str(file))
    parts = {}
    for title in module.CATCHES:
        slot, _, part = title.partition("/")
        if slot in SLOTS:
            parts[title] = SLOTS[slot].registered.pop(part)
    return module, parts


@contextmanager
def planted(name: str) -> Iterator[ModuleType]:
    """A file of mutants, its parts found by name until the block ends."""
    module, parts = brought(name)
    for title, part in parts.items():
        SLOTS[title.partition("/")[0]].registered[part.part] = part
    try:
        yield module
    finally:
        for title, part in parts.items():
            del SLOTS[title.partition("/")[0]].registered[part.part]
