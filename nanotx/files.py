"""Files that no reader ever sees half of."""

import os
import time
from contextlib import suppress
from pathlib import Path

from nanotx import disk


def publish(path: Path, content: str | bytes) -> None:
    """Write a text, in UTF-8, or bytes under a draft's name beside the file, flush it, then rename it.

    Raises:
        OSError: the disk refused; the file is as it was, and no draft is left.
    """
    draft = path.parent / f".{path.name}.{os.getpid()}"
    clear(path)
    try:
        disk.write(draft, content.encode("utf-8") if isinstance(content, str) else content)
        disk.sync(draft)
        disk.rename(draft, path)
        disk.sync(path.parent)
    except OSError:
        with suppress(OSError):
            disk.remove(draft)
        raise


def clear(path: Path, age: float = 60.0) -> None:
    """Remove what processes that are dead left of writing a file or a checkpoint, and nothing of one that lives.

    Args:
        path: what they were writing.
        age: seconds for which nobody has touched it; a process may live where it cannot be seen, on another machine.
    """
    with suppress(OSError):
        for draft in path.parent.iterdir():
            if draft.name.startswith(f".{path.name}.") and is_left(draft, age):
                disk.remove(draft)


def is_left(draft: Path, age: float = 0.0) -> bool:
    """Whether a draft, `.<name>.<process>` or `.<name>.<process>.old`, is of a process that is dead."""
    number = draft.name.removesuffix(".old").rpartition(".")[2]
    if not (number.isascii() and number.isdecimal()) or time.time() - draft.lstat().st_mtime < age:
        return False
    return int(number) == os.getpid() or not is_alive(int(number))


def is_alive(process: int) -> bool:
    """Whether a process runs on this machine; on Windows, where to ask would end it, it is taken to be dead."""
    if os.name == "nt":
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # of another user
        return True
    return True


def blank(file: Path) -> bool:
    """Whether a file is missing or holds nothing: no bytes, or zeros alone, as a power cut may leave it."""
    try:
        if not file.is_file():
            return not file.exists() and not file.is_symlink()
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                if block.strip(b"\0"):
                    return False
    except OSError:
        return False  # whoever reads it says why it cannot be read
    return True


def free(path: Path) -> Path:
    """The first name `<path>-<n>` that nothing bears."""
    number = 1
    while (found := path.with_name(f"{path.name}-{number}")).exists() or found.is_symlink():
        number += 1
    return found
