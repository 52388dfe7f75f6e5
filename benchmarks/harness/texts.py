"""Texts of any size with a long tail of new words, from what is on every machine that can run the benchmark."""

import sys
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from nanotx.data.corpus.playhouse import Playhouse
from nanotx.data.corpus.tiny_shakespeare import TinyShakespeare

SUFFIXES = {".py", ".pyi", ".md", ".rst", ".txt", ".h", ".hpp", ".json", ".html", ".js"}
MAX_FILE = 2_000_000  # bytes; larger files are tables
PLAY_EVERY = 8  # files of a mixed text, between which there is a play
TEXTS = {
    "shakespeare": "Tiny Shakespeare, or the playhouse where it is out of reach",
    "ascii": "sources and documents of the standard library and of installed packages, those in ASCII alone",
    "mixed": "those that are not all ASCII, and between them plays in seven scripts",
}


def documents(kind: str, megabytes: int) -> list[str]:
    """Return documents of a kind, together of about so many million bytes; fewer where this machine has fewer."""
    left, texts = megabytes * 1_000_000, list[str]()
    for text in all_documents(kind):
        texts.append(text[:left])
        left -= len(texts[-1].encode("utf-8"))
        if left <= 0:
            break
    return texts


def all_documents(kind: str) -> Iterator[str]:
    """Yield all documents of a kind."""
    if kind == "shakespeare":
        yield shakespeare()
        return
    for index, text in enumerate(sources(kind == "ascii")):
        yield text
        if kind == "mixed" and index % PLAY_EVERY == PLAY_EVERY - 1:
            yield Playhouse(grammar="voices", seed=index, size=20_000).text()


@cache
def shakespeare() -> str:
    """Return Tiny Shakespeare, or a play of its size."""
    try:
        return TinyShakespeare().text()
    except Exception:  # no network, or no such file
        return Playhouse(size=1_100_000).text()


def sources(is_ascii: bool) -> Iterator[str]:
    """Yield the files of the standard library and of installed packages that are in ASCII, or those that are not."""
    for folder in dict.fromkeys([sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), *sys.path[-1:]]):
        for file in sorted(Path(folder).rglob("*")):
            if file.suffix in SUFFIXES and file.is_file() and 0 < file.stat().st_size < MAX_FILE:
                data = file.read_bytes()
                if data.isascii() == is_ascii:
                    try:
                        yield data.decode("utf-8")
                    except UnicodeDecodeError:
                        continue
