"""Every change that saving makes on the disk, one function each, so that tests can inject a fault between any two."""

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

Content = bytes | Callable[[Path], None]
"""The content of a file, or a function that writes it to a path."""


def make(folder: Path) -> None:
    """Create a folder and its missing parents."""
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
    """Flush a file to the disk, or the entries of a folder where the system supports that."""
    if path.is_dir() and os.name == "nt":  # Windows opens no folders
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def rename(old: Path, new: Path) -> None:
    """Rename a file or folder; an existing file of the new name is replaced atomically."""
    old.replace(new)


def remove(path: Path) -> None:
    """Remove a file, or a folder with its contents; a missing path is not an error."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
