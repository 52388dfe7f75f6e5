"""FineWeb-Edu: pages of the web that a classifier takes to be educational, a common text for pretraining.

The shards are those of a shuffled sample of 100 billion tokens, so that any number of them is a sample too.
Source: Penedo et al. 2024, https://arxiv.org/abs/2406.17557; shards of Karpathy 2025,
https://huggingface.co/datasets/karpathy/fineweb-edu-100b-shuffle
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nanotx.config.schema import check_max, check_min
from nanotx.data.corpus.base import Corpus
from nanotx.data.document_files import Reading, documents
from nanotx.data.fetched import STAND_IN, Fetched, at_hand, say
from nanotx.data.resumable import LargeFile

URL = "https://huggingface.co/datasets/karpathy/fineweb-edu-100b-shuffle/resolve/main"
SHARDS = 1823  # that there are
SHARD = 250_000_000  # bytes of the text of a shard, approximately
PACKED = 100  # megabytes of its file, approximately
END = "\n<|endoftext|>\n"  # after each document

BLOCK = 1 << 22  # characters of a piece, at least
CUT = re.compile(r"[A-Za-z](?=[ \n])")  # as in `text_files.py`


@Corpus.register("fineweb_edu")
@dataclass(frozen=True, kw_only=True)
class FineWebEdu(Fetched):
    """The first shards of FineWeb-Edu, each document followed by the line `<|endoftext|>`; fetched on first use.

    A shard is about 250 MB of text, and 100 MB to fetch.
    """

    shards: int = 1  # number of shards to read, of 1,823

    def __post_init__(self) -> None:
        super().__post_init__()
        check_min(self, 1, "shards")
        check_max(self, SHARDS, "shards")

    def size_hint(self) -> int:
        """Return the approximate size of the text in bytes."""
        return STAND_IN if self.stand_in else SHARD * self.shards

    def pieces(self) -> Iterator[str]:
        """Yield the text in pieces; see `Corpus.pieces`.

        Raises:
            ConfigError: pyarrow is not installed.
        """
        if self.stand_in:
            yield from super().pieces()
            return
        texts = (piece.text for path in self.files() for piece in documents(path, Reading()))
        yield from at_cuts(part for text in texts for part in (text, END))

    def is_local(self) -> bool:
        """Return whether all shards are on this machine."""
        return self.stand_in or all(at_hand(place) is not None for place in self.places())

    def places(self) -> list[Path]:
        """Return the paths of the shards in the folder of NANOTX_DATA, or in the cache."""
        return [Path("fineweb_edu", f"shard_{number:05}.parquet") for number in range(self.shards)]

    def files(self) -> Iterator[Path]:
        """Yield the paths of the shards; those that are not on this machine are fetched, each when it is wanted.

        Raises:
            Unavailable: one cannot be fetched.
        """
        places = self.places()
        if missing := sum(at_hand(place) is None for place in places):
            say(f"corpus fineweb_edu: {missing} of {self.shards} shards are to be fetched, about {PACKED} MB each")
        for place in places:
            yield self.fetched(LargeFile(url=f"{URL}/{place.name}"), place)

    def write(self, play: str) -> str:
        """Return a play as documents of a few speeches."""
        speeches = [speech.strip() for speech in play.split("\n\n") if speech.strip()]
        return "".join("\n\n".join(speeches[at : at + 8]) + END for at in range(0, len(speeches), 8))


def at_cuts(texts: Iterable[str]) -> Iterator[str]:
    """Yield texts, joined, in pieces that each end between a letter and white space, except the last."""
    held, size = list[str](), 0
    for text in texts:
        held.append(text)
        size += len(text)
        if size >= BLOCK:
            joined = "".join(held)
            if cuts := [match.end() for match in CUT.finditer(joined)]:
                yield joined[: cuts[-1]]
                joined = joined[cuts[-1] :]
            held, size = [joined], len(joined)
    if size:
        yield "".join(held)
