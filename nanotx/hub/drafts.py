"""Folders and files that are written under a temporary name until they are complete."""

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nanotx import disk
from nanotx.errors import ConfigError, RunError
from nanotx.files import DESKTOP_FILES, clear

LISTED = 5
"""The most names in a message."""


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


def check_folder(
    target: Path,
    overwrite: bool,
    names: Collection[str],
    marks: Collection[str],
    example: str = "my-model",
    kind: str = "an export",
) -> None:
    """Raise ConfigError unless nothing is at a target, or a folder of this export alone, which is to be replaced.

    Args:
        target: the folder to write.
        overwrite: replace what is there.
        names: files that the export writes; a folder that holds others is kept, since replacing it would delete them.
        marks: those of the files that every folder of this export has.
        example: a name that would do.
        kind: what the folder is of.
    """
    if not is_occupied(target, overwrite, example):
        return
    if target.is_symlink() or not all((target / name).is_file() for name in marks):
        raise ConfigError(f"{target}: no folder of {kind}, so it is not replaced; choose another path.")
    if others := sorted({path.name for path in target.iterdir()} - {*names} - DESKTOP_FILES):
        more = f" and {len(others) - LISTED} more" if len(others) > LISTED else ""
        raise ConfigError(
            f"{target}: it is not replaced, because that would delete {', '.join(others[:LISTED])}{more}, which no "
            "export wrote; move that away, or choose another path."
        )


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
        clear(target)  # what a process that was killed left of it
    except OSError as error:
        raise RunError(f"{target}: cannot be written: {error.strerror or error}; try another path.") from None
    finally:
        with suppress(OSError):
            disk.remove(draft)


@contextmanager
def drafted_file(target: Path) -> Iterator[Path]:
    """Context with the path of a new file, which is flushed and gets its name at the end; after an error it is removed.

    Raises:
        RunError: the disk refuses; nothing new is left under the target's name.
    """
    draft = draft_of(target)
    try:
        yield draft
        disk.sync(draft)
        publish(draft, target)
        clear(target)
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
