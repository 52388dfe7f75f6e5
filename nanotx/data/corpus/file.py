"""A text of the user's own: a file, a folder with all that is in it, or a glob."""

import glob
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from nanotx.data.corpus.base import Corpus
from nanotx.data.text_files import files_in, files_like, read_text
from nanotx.errors import ConfigError, DataError
from nanotx.files import similar_file
from nanotx.hardware.memory import check_memory

S = TypeVar("S")
T = TypeVar("T")
LARGE = 1 << 28  # bytes of a file that are held against the memory there is before they are read


@Corpus.register("file")
@dataclass(frozen=True, kw_only=True)
class File(Corpus):
    """UTF-8 text unchanged, line endings included.

    A folder is read to its depths, without what is hidden and without the folders of runs, in the order of the names;
    what cannot be read is refused. Several files become one text: each but the last is given a newline at its end
    where it has none. A byte-order mark is dropped.
    """

    path: str = ""  # my.txt, a folder, or a glob such as "books/**/*.txt"

    def text(self) -> str:
        """The whole text.

        Raises:
            DataError: there is no such file, none in the folder or glob, one cannot be read or is not UTF-8, or all are
                empty.
        """
        if not self.path:
            raise DataError("corpus file: path is empty; give --corpus.path my.txt")
        try:
            texts = [text for path in self._paths() if (text := _read(path))]
        except OSError as error:
            raise DataError(f"corpus file: {error.filename or self.path}: cannot be read: {error.strerror}.") from None
        if not texts:
            raise DataError(f"corpus file: {self.path}: there is no text in it.")
        ended = [text if text.endswith("\n") else text + "\n" for text in texts[:-1]]
        return "".join([*ended, texts[-1]])

    def _paths(self) -> list[Path]:
        path = Path(self.path)
        if path.is_file():
            return [path]
        if path.is_dir():
            return _named(files_in, path)
        if path.exists() or "\0" in self.path:
            raise DataError(f"corpus file: {self.path!r}: expected a file or a folder, got a pipe or a device.")
        if not glob.has_magic(self.path):
            raise DataError(f"corpus file: {self.path}: there is no such file or folder.{similar_file(path)}")
        found = _named(files_like, self.path)
        if not found:
            raise DataError(
                f"corpus file: {self.path}: no file matches; try a shorter pattern. What is hidden and the folders of "
                "runs are left out."
            )
        return found


def _read(path: Path) -> str:
    if (size := path.stat().st_size) > LARGE:
        _check_room(path, size)
    return _named(lambda path: read_text(path, "or name the text files alone with a glob such as '*.txt'"), path)


def _named(read: Callable[[S], T], what: S) -> T:
    """What is read, or an error that says for whom."""
    try:
        return read(what)
    except DataError as error:
        raise DataError(f"corpus file: {error}") from None


def _check_room(path: Path, size: int) -> None:
    try:
        check_memory(f"corpus file: {path}: its bytes and its characters", 2 * size, "a part of it")
    except ConfigError as error:
        raise DataError(str(error)) from None
