"""What the deeds are given: a tokenizer, a file or standard input, and UTF-8 in it."""

import sys
from collections.abc import Iterable
from pathlib import Path

from nanotx.errors import DataError
from nanotx.text_files import decoded, files_of


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


def plain_files(names: Iterable[str]) -> list[Path]:
    """The files that are meant, which are read more than once.

    Raises:
        DataError: one is not there, or is a pipe, a socket or a device, of which reading may never end.
    """
    files = files_of(names)
    for file in files:
        if not file.is_file():
            raise DataError(f"{file}: expected a file or a folder, got a pipe, a socket or a device.")
    return files
