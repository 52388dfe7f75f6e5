"""Files that no reader ever sees half of."""

import os
from pathlib import Path


def publish(path: Path, content: str | bytes) -> None:
    """Write a text, in UTF-8, or bytes under a draft's name beside the file, then rename it.

    Raises:
        OSError: the disk refused; the file is as it was, and no draft is left.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
