"""The glossary, `glossary.md`: an entry is a heading with its names, separated by commas, and a few paragraphs.

The documentation includes the same file, and `nanotx explain` prints its entries.
"""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("glossary.md")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An entry of the glossary."""

    names: tuple[str, ...]  # the first is the usual one
    text: str  # paragraphs of Markdown; *word* names another entry
    group: str  # the heading above it

    @property
    def plain(self) -> str:
        """The text without the marks of Markdown."""
        return re.sub(r"(?<![\w*])\*([^*\n]+)\*(?![\w*])", r"\1", self.text).replace("`", "")


@cache
def entries() -> tuple[Entry, ...]:
    """Return the entries in their order."""
    parsed: list[Entry] = []
    for section in re.split(r"^## ", FILE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        group, _, rest = section.partition("\n")
        for entry in re.split(r"^### ", rest, flags=re.MULTILINE)[1:]:
            names, _, text = entry.partition("\n")
            parsed.append(Entry(names=tuple(names.strip().split(", ")), text=text.strip(), group=group.strip()))
    return tuple(parsed)


def find_entry(word: str) -> Entry | None:
    """Return the entry with this name; case, hyphens, underscores and leading hyphens do not matter."""
    wanted = normalised(word)
    return next((entry for entry in entries() if wanted in map(normalised, entry.names)), None)


def normalised(word: str) -> str:
    """Return a word in the form in which words are compared."""
    return re.sub(r"[-_\s]+", " ", word.lower()).strip()
