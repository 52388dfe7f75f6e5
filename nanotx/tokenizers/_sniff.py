"""Whose a tokenizer's file is: ours, or that of a library, which has a part that reads it."""

import json
from pathlib import Path

from nanotx.files import open_plain

LARGEST = 1 << 24  # bytes; a stranger's file must not fill the memory
HEAD = 200  # bytes in which a file of ours says that it is one


def kind_of(path: str | Path) -> str:
    """The part that reads a file: `saved` for ours, and for all of which nobody can say what it is."""
    file = Path(path)
    if file.suffix == ".tiktoken":
        return "tiktoken"
    try:
        with open_plain(file) as opened:
            head = opened.read(HEAD)
            if b'"nanotx"' in head:
                return "saved"
            found = json.loads(head + opened.read(LARGEST))
    except (OSError, ValueError, RecursionError):
        return "saved"  # which says what is wrong with it
    foreign = isinstance(found, dict) and "nanotx" not in found and isinstance(found.get("model"), dict)
    return "huggingface" if foreign else "saved"
