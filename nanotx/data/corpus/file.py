"""A user's text: a file, all files of a folder, or a glob."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nanotx.data.corpus.base import Corpus
from nanotx.data.text_files import blocks, files_named, read_text
from nanotx.errors import ConfigError, DataError
from nanotx.hardware.memory import check_memory

WHERE = "corpus file"
OF_MANY = "or name the text files alone with a glob such as '*.txt'"
"""Second remedy in messages about a file of several that is not UTF-8."""

OF_ONE = "as iconv -f latin1 -t utf-8 does if it is Latin-1"
"""The same for a file that was named."""

LARGE = 1 << 28  # bytes of a file that are compared with the free memory before they are read


@Corpus.register("file")
@dataclass(frozen=True, kw_only=True)
class File(Corpus):
    """UTF-8 text unchanged, line endings included.

    All files of a folder and its subfolders are read, in the order of their names, except hidden ones and the folders
    of runs; a file that cannot be read is an error. Several files become one text: each but the last gets a newline at
    its end if it has none. A byte-order mark is dropped.
    """

    documents: Literal["join", "separate"] = "join"  # join: the files are one text; separate: each reads only itself
    path: str = ""  # my.txt, a folder, or a glob such as "books/**/*.txt"

    def text(self) -> str:
        """Return the whole text.

        Raises:
            DataError: there is no such file, none in the folder or glob, one cannot be read or is not UTF-8, or all are
                empty.
        """
        texts = list(self.document_texts())
        ended = [text if text.endswith("\n") else text + "\n" for text in texts[:-1]]
        return "".join([*ended, texts[-1]])

    @property
    def remedy(self) -> str:
        """The second remedy for a file that is not UTF-8."""
        return OF_ONE if Path(self.path).is_file() else OF_MANY

    @property
    def keeps_apart(self) -> bool:
        return self.documents == "separate"

    def document_texts(self) -> Iterator[str]:
        """Yield the text of each file that has one.

        Raises:
            DataError: as for `text`.
        """
        if not self.path:
            raise DataError("corpus file: path is empty; give --corpus.path my.txt")
        empty = True
        try:
            for path in files_named(WHERE, self.path):
                if text := _read(path, self.remedy):
                    empty = False
                    yield text
        except OSError as error:
            raise DataError(f"corpus file: {error.filename or self.path}: cannot be read: {error.strerror}.") from None
        if empty:
            raise DataError(f"corpus file: {self.path}: there is no text in it.")

    def size_hint(self) -> int:
        """Return the size of the files in bytes; 0 if one cannot be accessed."""
        try:
            return sum(path.stat().st_size for path in files_named(WHERE, self.path)) if self.path else 0
        except (OSError, DataError):
            return 0

    def pieces(self) -> Iterator[str]:
        """Yield the text in pieces; see `Corpus.pieces`."""
        last = "\n"  # of what was yielded
        for path in files_named(WHERE, self.path):
            try:
                for number, (piece, _) in enumerate(blocks(path, remedy=self.remedy)):
                    check_text(path, piece)
                    if not number and last != "\n":
                        yield "\n"
                    yield piece
                    last = piece[-1]
            except DataError as error:
                raise DataError(f"{WHERE}: {error}") from None


def _read(path: Path, remedy: str) -> str:
    """Return the text of a file that fits into memory.

    Raises:
        DataError: it does not fit, cannot be read, is not UTF-8, or holds NUL characters.
    """
    if (size := path.stat().st_size) > LARGE:
        try:
            check_memory(f"{WHERE}: {path}: its bytes and its characters", 2 * size, "a part of it")
        except ConfigError as error:
            raise DataError(str(error)) from None
    try:
        text = read_text(path, remedy)
        check_text(path, text)
    except DataError as error:
        raise DataError(f"{WHERE}: {error}") from None
    return text


UTF16 = 0.25
"""Share of NUL characters from which on a text is taken for UTF-16, of which half is NUL where it is English."""


def check_text(path: Path, text: str) -> None:
    """Raise DataError for a text that is UTF-16 without its mark, which is valid UTF-8; a few NULs are let pass."""
    count = text.count("\0")
    if count > UTF16 * len(text):
        raise DataError(
            f"{path}: {count:,} of {len(text):,} characters are NUL characters: it is UTF-16, or no text; try "
            "iconv -f utf-16le -t utf-8."
        )
