"""What the deeds are given: a tokenizer, a file or standard input, and UTF-8 in it."""

import sys
from pathlib import Path

from nanotx.errors import DataError
from nanotx.text_files import decoded


def text_of(file: str, errors: str = "strict") -> str:
    """The text of a file, or of standard input where there is none."""
    return read_text(file, errors) if file else decoded(sys.stdin.buffer.read(), "standard input", errors)


def read_text(file: str, errors: str = "strict") -> str:
    """A file's text.

    Raises:
        DataError: it cannot be read, or is not UTF-8.
    """
    try:
        return decoded(Path(file).read_bytes(), file, errors)
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}.") from None
