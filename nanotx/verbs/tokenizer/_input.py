"""What the deeds are given: a tokenizer, a file or standard input, and UTF-8 in it."""

import sys
from collections.abc import Collection, Iterable
from pathlib import Path

from nanotx import text_files
from nanotx.errors import DataError, TextError
from nanotx.text_files import decoded, files_of
from nanotx.tokenizers import Codec, Ids


def text_of(file: str, errors: str = "strict") -> str:
    """The text of a file, or of standard input where there is none."""
    return read_text(file, errors) if file else decoded(sys.stdin.buffer.read(), "standard input", errors)


def read_text(file: str, errors: str = "strict") -> str:
    """A file's text.

    Raises:
        DataError: it cannot be read, or is not UTF-8.
    """
    return text_files.read_text(Path(file), errors=errors)


def encoded(codec: Codec, text: str, where: str, allowed_special: Collection[str] = ()) -> Ids:
    """The ids of a text.

    Raises:
        TextError: the tokenizer cannot hold it; says in which line of what, where one line by itself shows it.
    """
    try:
        return codec.encode(text, allowed_special)
    except TextError as error:
        for number, line in enumerate(text.splitlines(keepends=True), start=1):
            try:
                codec.encode(line, allowed_special)
            except TextError as of_line:
                raise TextError(f"{where}: line {number:,}: {of_line}") from None
        raise TextError(f"{where}: {error}") from None


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
