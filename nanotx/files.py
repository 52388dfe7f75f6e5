"""Files that no reader ever sees half of."""

import os
from pathlib import Path


def publish_text(path: Path, text: str) -> None:
    """Write a text under a draft's name beside the file, then rename it.

    Raises:
        OSError: the disk refused; the file is as it was, and no draft is left.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8", newline="\n")
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
