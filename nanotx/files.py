"""Files that no reader ever sees half of."""

import os
from contextlib import suppress
from pathlib import Path

from nanotx import disk


def publish(path: Path, content: str | bytes) -> None:
    """Write a text, in UTF-8, or bytes under a draft's name beside the file, flush it, then rename it.

    Raises:
        OSError: the disk refused; the file is as it was, and no draft is left.
    """
    draft = path.parent / f".{path.name}.{os.getpid()}"
    try:
        disk.write(draft, content.encode("utf-8") if isinstance(content, str) else content)
        disk.sync(draft)
        disk.rename(draft, path)
        disk.sync(path.parent)
    except OSError:
        with suppress(OSError):
            disk.remove(draft)
        raise


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
