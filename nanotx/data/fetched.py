"""Corpora of large files that are fetched on first use, kept in the user's cache folder, and read in pieces."""

import os
import sys
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from nanotx.data.corpus.base import Corpus, Unavailable
from nanotx.data.corpus.playhouse import Playhouse
from nanotx.data.resumable import LargeFile, fetch_file, open_range
from nanotx.data.text_files import blocks

STAND_IN = 200_000
"""Characters of the text that stands in."""


@dataclass(frozen=True, kw_only=True)
class Fetched(Corpus):
    """A text of a known name on a server."""

    stand_in: bool = False  # read a short text of our own in the same form instead, without a network

    source: ClassVar[LargeFile]
    place: ClassVar[Path]  # in the folder NANOTX_DATA, and in the user's cache
    bytes: ClassVar[int]  # of the text, approximately

    @abstractmethod
    def write(self, play: str) -> str:
        """Return a play in the form of this corpus, as the text that stands in."""

    def text(self) -> str:
        """Return the whole text.

        Raises:
            Unavailable: it is not on this machine and cannot be fetched; the message says what to try.
            DataError: it has another digest, or is not UTF-8.
        """
        return "".join(self.pieces())

    def size_hint(self) -> int:
        """Return the approximate size of the text in bytes."""
        return STAND_IN if self.stand_in else type(self).bytes

    def is_local(self) -> bool:
        """Return whether the text is on this machine."""
        return self.stand_in or at_hand(self.place) is not None

    def pieces(self) -> Iterator[str]:
        """Yield the text in pieces; see `Corpus.pieces`."""
        if self.stand_in:
            yield self.write(Playhouse(size=STAND_IN).text())
            return
        for piece, _ in blocks(self.file()):
            yield piece

    def file(self) -> Path:
        """Return the path of the text, which is fetched where it is not on this machine.

        Raises:
            Unavailable: it cannot be fetched.
        """
        return self.fetched(self.source, self.place)

    def fetched(self, source: LargeFile, place: Path) -> Path:
        """Return the path of a file, which is fetched where it is not on this machine.

        Args:
            source: the file on its server.
            place: in the folder NANOTX_DATA, and in the user's cache.

        Raises:
            Unavailable: it cannot be fetched.
        """
        if (path := at_hand(place)) is not None:
            return path
        cached = cache_folder() / place
        try:
            fetch_file(source, cached, say, open_range)
        except Unavailable as error:
            raise Unavailable(
                f"corpus {self.part}: {error} Or set NANOTX_DATA to a folder that holds {place.as_posix()}, "
                "or try the recipe on a text of our own with --corpus.stand-in."
            ) from error
        return cached


def at_hand(place: Path) -> Path | None:
    """Return the path of a file in the folder NANOTX_DATA or the user's cache; None where it is in neither."""
    own = Path(os.environ.get("NANOTX_DATA") or os.devnull) / place
    return next((path for path in (own, cache_folder() / place) if path.is_file()), None)


def cache_folder() -> Path:
    """Return the folder in which fetched files are kept."""
    from platformdirs import user_cache_dir  # only a fetched text needs it

    return Path(user_cache_dir("nanotx"))


def say(line: str) -> None:
    """Print a line about a download, apart from what the command prints."""
    sys.stderr.write(f"{line}\n")
