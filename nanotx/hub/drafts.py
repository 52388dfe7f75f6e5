"""Folders and files that are written under a temporary name until they are complete."""

import os
from pathlib import Path

from nanotx import disk


def draft_of(target: Path) -> Path:
    """Return the path beside a target under which this process writes it."""
    return target.with_name(f".{target.name}.{os.getpid()}")


def publish(draft: Path, target: Path) -> None:
    """Rename a finished draft to its target, and flush that to the disk; an existing folder is replaced."""
    if target.is_dir() and not target.is_symlink():
        old = draft.with_name(f"{draft.name}.old")
        disk.rename(target, old)
        disk.rename(draft, target)
        disk.remove(old)
    else:
        disk.rename(draft, target)
    disk.sync(target.parent)
