"""Folders and files that are written under a temporary name until they are complete."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nanotx import disk
from nanotx.errors import ConfigError, RunError


def is_occupied(target: Path, overwrite: bool, example: str) -> bool:
    """Return whether something is at a target; it may be replaced if it is of the kind that is written.

    Args:
        target: the path to write.
        overwrite: replace what is there.
        example: a name that would do.

    Raises:
        ConfigError: the target has no name, or something is there that is not to be replaced.
    """
    if not target.name:
        raise ConfigError(f"PATH: {str(target)!r} has no name; try one such as {example}.")
    occupied = target.exists() or target.is_symlink()
    if occupied and not overwrite:
        raise ConfigError(f"{target}: already exists; add --overwrite to replace it, or choose another path.")
    return occupied


@contextmanager
def drafted_folder(target: Path) -> Iterator[Path]:
    """Context with a new folder, which is flushed and gets its name at the end; after an error it is removed.

    Raises:
        RunError: the disk refuses; nothing new is left under the target's name.
    """
    draft = draft_of(target)
    try:
        disk.make(draft)
        yield draft
        for file in sorted(draft.iterdir()):
            disk.sync(file)
        disk.sync(draft)
        publish(draft, target)
    except OSError as error:
        raise RunError(f"{target}: cannot be written: {error.strerror or error}; try another path.") from None
    finally:
        with suppress(OSError):
            disk.remove(draft)


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
