"""Atomic writes, and bounded reads of regular files, which may come from an untrusted source."""

import errno
import io
import os
import stat
import time
from contextlib import suppress
from io import BufferedReader
from pathlib import Path

from nanotx import disk
from nanotx.errors import did_you_mean
from nanotx.hardware.cgroup import memory_info

CHECKED_SIZE = 1 << 26
"""Bytes of a file that are compared with the free memory before they are read."""


DESKTOP_FILES = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
"""Files that the file managers of macOS and Windows put into folders that they show."""


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file to read its bytes; never wait, whatever kind of file it is.

    A link is followed, but only to a plain file: a pipe, a socket and a device have no end, and may block.

    Raises:
        OSError: it is missing, is no plain file, or cannot be read.
    """
    if "\0" in str(path):
        raise OSError(errno.EINVAL, "there is a NUL in its name", str(path))
    check_regular(path.stat().st_mode, path)  # first, because opening a device may already do something
    file = io.open(path, "rb", opener=open_nonblocking)  # noqa: SIM115, UP020  the caller closes it; a test may replace it
    try:
        check_regular(os.fstat(file.fileno()).st_mode, path)
    except BaseException:
        file.close()
        raise
    return file


def open_nonblocking(path: str, flags: int) -> int:
    """Open a file as the system does; a pipe that took its name meanwhile does not make us wait."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def check_regular(mode: int, path: Path) -> None:
    """Raise OSError unless a file's mode is that of a plain file."""
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "expected a plain file, got a pipe, a socket, a device or the like", str(path))


def read_regular(path: Path, most: int | None = None) -> bytes:
    """Return the bytes of a regular file.

    Args:
        path: may be any kind of file; see `open_regular`.
        most: the largest allowed size in bytes; without it, the free memory is the limit.

    Raises:
        OSError: it is missing, is no plain file, is too large, or cannot be read.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        check_length(path, size, most)
        data = file.read(size + 1 if most is None else most + 1)
        if data is None:
            raise BlockingIOError(errno.EAGAIN, "it has nothing to read yet", str(path))
        if most is not None:  # the system's own files tell no size, and others may have grown
            check_length(path, len(data), most)
        return data


def check_length(path: Path, size: int, most: int | None = None) -> None:
    """Raise OSError where a file has more bytes than it may have, or than there is memory for."""
    if most is not None and size > most:
        raise OSError(errno.EFBIG, f"{size:,} bytes or more, and expected at most {most:,}", str(path))
    memory = memory_info() if most is None and size > CHECKED_SIZE else None
    if memory is not None and size > memory.available:
        raise OSError(
            errno.ENOMEM, f"{size:,} bytes, and only {memory.available:,} bytes of memory are free", str(path)
        )


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write text (as UTF-8) or bytes to a temporary file next to the target, flush it, then rename it.

    Raises:
        OSError: the write failed; the target is unchanged, and no temporary file is left.
    """
    temporary = path.parent / f".{path.name}.{os.getpid()}"
    clear(path)
    try:
        disk.write(temporary, content.encode("utf-8") if isinstance(content, str) else content)
        disk.sync(temporary)
        disk.rename(temporary, path)
        disk.sync(path.parent)
    except OSError:
        with suppress(OSError):
            disk.remove(temporary)
        raise


def clear(path: Path, age: float = 60.0) -> None:
    """Remove the temporary files that dead processes left of a file or a checkpoint; keep those of running ones.

    Args:
        path: the target of the temporary files.
        age: keep files changed within so many seconds: their process may be running on another machine.
    """
    with suppress(OSError):
        for temporary in path.parent.iterdir():
            if temporary.name.startswith(f".{path.name}.") and is_left(temporary, age):
                disk.remove(temporary)


def is_left(temporary: Path, age: float = 0.0) -> bool:
    """Return whether a temporary file, `.<name>.<process>` or `.<name>.<process>.old`, belongs to a dead process."""
    number = temporary.name.removesuffix(".old").rpartition(".")[2]
    if not (number.isascii() and number.isdecimal()) or time.time() - temporary.lstat().st_mtime < age:
        return False
    return int(number) == os.getpid() or not is_alive(int(number))


def is_alive(process: int) -> bool:
    """Return whether a process runs on this machine; False on Windows, where asking would end the process."""
    if os.name == "nt":
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # of another user
        return True
    return True


def is_blank(file: Path) -> bool:
    """Return whether a file is missing or empty: no bytes, or only zeros, as a power cut may leave it."""
    try:
        if not file.is_file():
            return not file.exists() and not file.is_symlink()
        with open_regular(file) as stream:
            if os.fstat(stream.fileno()).st_size > CHECKED_SIZE:  # no file of ours
                return False
            while block := stream.read(1 << 20):
                if block.strip(b"\0"):
                    return False
    except OSError:
        return False  # reading it will say why it cannot be read
    return True


def unused_path(path: Path) -> Path:
    """Return the first path `<path>-<n>` that does not exist."""
    number = 1
    while (candidate := path.with_name(f"{path.name}-{number}")).exists() or candidate.is_symlink():
        number += 1
    return candidate


def similar_file(path: Path) -> str:
    """Return the file beside a missing one whose name was probably meant, as a sentence; empty if there is none."""
    try:
        names = [near.name for near in path.parent.iterdir()]
    except OSError:
        return ""
    return did_you_mean(path.name, names)
