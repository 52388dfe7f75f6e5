"""Folders and files that get their name when they are whole."""

import os
from pathlib import Path

from nanotx import disk


def draft_of(target: Path) -> Path:
    """Return the path beside a target under which this process writes it."""
    return target.with_name(f".{target.name}.{os.getpid()}")


def publish(draft: Path, target: Path) -> None:
    """Give a draft its name, and flush that to the disk; a folder that has the name steps aside until then."""
    if target.is_dir() and not target.is_symlink():
        old = draft.with_name(f"{draft.name}.old")
        disk.rename(target, old)
        disk.rename(draft, target)
        disk.remove(old)
    else:
        disk.rename(draft, target)
    disk.sync(target.parent)
