"""Text that cannot command a terminal, whoever wrote it."""

import shlex
import unicodedata
from pathlib import Path


def printable(text: str) -> str:
    """The text with U+FFFD for each control character but newline and tab, and for what turns the writing around."""
    return "".join("\ufffd" if is_command(character) else character for character in text)


def quoted(path: str | Path) -> str:
    """A path as one word of a shell, and no flag."""
    text = path.as_posix() if isinstance(path, Path) else path
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def is_command(character: str) -> bool:
    """Whether a terminal takes a character for an order: control characters, and those that reorder what follows."""
    kind = unicodedata.category(character)
    return (kind == "Cc" and character not in "\n\t") or unicodedata.bidirectional(character) in TURNING


TURNING = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
