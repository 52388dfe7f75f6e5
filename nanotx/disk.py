"""Every change that a save makes on the disk, a function each, so that tests can make the disk fail between any two."""

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

Content = bytes | Callable[[Path], None]
"""The content of a file, or a function that writes it to a path."""


def make(folder: Path) -> None:
    """Make a folder that is not there, and those above it."""
    folder.mkdir(parents=True)


def write(file: Path, content: Content) -> None:
    """Write a whole file; its permissions are those of new files (the umask)."""
    if isinstance(content, bytes):
        file.write_bytes(content)
        return
    file.touch()
    mode = stat.S_IMODE(file.stat().st_mode)
    content(file)  # the library that writes tensors would let none but the owner read them
    if stat.S_IMODE(file.stat().st_mode) != mode:
        file.chmod(mode)


def sync(path: Path) -> None:
    """Flush a file, or a folder's list of names where the system knows how, to the disk."""
    if path.is_dir() and os.name == "nt":  # Windows opens no folders
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def rename(old: Path, new: Path) -> None:
    """Give a file or folder another name; a file of that name is replaced at once, and is never half there."""
    old.replace(new)


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it; what is not there already is no fault."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
