"""Tiny Shakespeare: forty thousand lines from the plays, a common first training text for small models.

Source: Karpathy 2015, https://karpathy.github.io/2015/05/21/rnn-effectiveness/
"""

import os
from dataclasses import dataclass
from pathlib import Path

from nanotx.data.corpus.base import Corpus, Unavailable
from nanotx.data.download import Source
from nanotx.errors import DataError
from nanotx.files import read_regular

SOURCE = Source(
    url="https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
    sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    size=1_115_394,
)
PLACE = Path("tinyshakespeare", "input.txt")  # in the folder NANOTX_DATA, and in the user's cache
SECONDS = 5.0  # time limit of the download
CHARACTERS, LAST_NEW = 65, 686_615
"""The number of distinct characters of the text, and the offset at which the last of them appears first."""


@Corpus.register("tiny_shakespeare")
@dataclass(frozen=True, kw_only=True)
class TinyShakespeare(Corpus):
    """Tiny Shakespeare as published; downloaded on first use, unless the folder NANOTX_DATA holds it."""

    def text(self) -> str:
        """Return the whole text.

        Raises:
            Unavailable: it is not on this machine and cannot be downloaded; the message says what to try.
            DataError: the file in NANOTX_DATA has other contents, or cannot be read.
        """
        data = _from_data_folder() or _from_cache() or _downloaded()
        return data.decode("utf-8")

    def characters(self) -> int | None:
        """Return the number of distinct characters of the training text, if the last of them to appear is in it."""
        return CHARACTERS if self.cut(SOURCE.size) > LAST_NEW else None

    def is_local(self) -> bool:
        """Return whether the text is on this machine."""
        return bool(_from_data_folder() or _from_cache())


def _from_data_folder() -> bytes:
    """Return the file in NANOTX_DATA; empty if the variable is not set or its folder has none."""
    folder = os.environ.get("NANOTX_DATA", "")
    if not folder:
        return b""
    path = Path(folder) / PLACE
    try:
        data = read_regular(path, 2 * SOURCE.size)
    except (FileNotFoundError, NotADirectoryError):
        return b""
    except OSError as error:
        raise DataError(f"corpus tiny_shakespeare: {path} (NANOTX_DATA): cannot be read: {error.strerror}.") from None
    if fault := SOURCE.fault(data):
        raise DataError(
            f"corpus tiny_shakespeare: {path} (NANOTX_DATA): {fault}. "
            f"Put the file of {SOURCE.url} there, unset NANOTX_DATA, "
            f"or train on that file with --corpus file --corpus.path {path}."
        )
    return data


def _from_cache() -> bytes:
    """Return the file that an earlier run downloaded; empty if there is none, or it is damaged."""
    try:
        data = read_regular(_cache(), 2 * SOURCE.size)
    except OSError:
        return b""
    return b"" if SOURCE.fault(data) else data


def _downloaded() -> bytes:
    from nanotx.data import download  # once on a machine

    try:
        return download.fetch(SOURCE, _cache(), SECONDS, download.open_https)
    except Unavailable as error:
        raise Unavailable(
            f"corpus tiny_shakespeare: {error}. Set NANOTX_DATA to a folder that holds {PLACE.as_posix()}, "
            "or use --corpus playhouse, or --corpus file --corpus.path my.txt."
        ) from error


def _cache() -> Path:
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("nanotx")) / PLACE
