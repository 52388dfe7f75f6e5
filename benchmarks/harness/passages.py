"""Texts of any size with a long tail of new words: what lies on every machine that can run the benchmark."""

import sys
import sysconfig
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from nanotx.data.corpus.playhouse import Playhouse
from nanotx.data.corpus.tiny_shakespeare import TinyShakespeare

ENDINGS = {".py", ".pyi", ".md", ".rst", ".txt", ".h", ".hpp", ".json", ".html", ".js"}
LARGEST = 2_000_000  # bytes of a file; larger ones are tables
VOICES = 8  # a document of the playhouse after so many files, in a mixed text
ABOUT = {
    "shakespeare": "Tiny Shakespeare, or the playhouse where it is out of reach",
    "ascii": "sources and documents of the standard library and of installed packages, those in ASCII alone",
    "mixed": "those that are not all ASCII, and between them plays in seven scripts",
}


def documents(kind: str, megabytes: int) -> list[str]:
    """Texts of a kind, together of about so many million bytes; fewer where there are not as many on this machine."""
    size, found = megabytes * 1_000_000, list[str]()
    for text in _all(kind):
        found.append(text[:size])
        size -= len(found[-1].encode("utf-8"))
        if size <= 0:
            break
    return found


def _all(kind: str) -> Iterator[str]:
    if kind == "shakespeare":
        yield _shakespeare()
        return
    for index, text in enumerate(_sources(kind == "ascii")):
        yield text
        if kind == "mixed" and index % VOICES == VOICES - 1:
            yield Playhouse(grammar="voices", seed=index, size=20_000).text()


@lru_cache(maxsize=1)
def _shakespeare() -> str:
    try:
        return TinyShakespeare().text()
    except Exception:  # no network, or no such file there
        return Playhouse(size=1_100_000).text()


def _sources(ascii_alone: bool) -> Iterator[str]:
    for folder in dict.fromkeys([sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), *sys.path[-1:]]):
        for file in sorted(Path(folder).rglob("*")):
            if file.suffix in ENDINGS and file.is_file() and 0 < file.stat().st_size < LARGEST:
                data = file.read_bytes()
                if data.isascii() != ascii_alone:
                    continue
                try:
                    yield data.decode("utf-8")
                except UnicodeDecodeError:
                    continue
