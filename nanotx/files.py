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
