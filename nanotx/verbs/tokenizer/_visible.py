"""Tokens made visible: a token's bytes as one line of text in which nothing hides and nothing commands a terminal.

A space is shown as a dot, a tab as an arrow, a newline as a hook. Every other character that has no shape of its own,
and every byte that is no whole character, is shown as the escape that Python writes for it. A mark that would sit on
the letter before it sits on a dotted circle.
"""

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from nanotx.tokenizers import Codec

SIGNS = {" ": "·", "\t": "→", "\n": "⏎", "\r": "␍"}
SHAPELESS = {"Cc", "Cf", "Cn", "Cs", "Zs", "Zl", "Zp"}
"""Unicode's categories of characters without a shape: controls, directions, what is not assigned, white space."""


@dataclass(frozen=True, kw_only=True)
class Token:
    """An id and what it stands for."""

    number: int
    data: bytes
    shown: str
    special: bool

    @property
    def ends_line(self) -> bool:
        """Whether the text goes on in a new line after it."""
        return self.data.endswith(b"\n")

    @property
    def hexadecimal(self) -> str:
        """Its bytes, two digits each."""
        return self.data.hex(" ")


def tokens(codec: Codec, ids: Iterable[int]) -> Iterator[Token]:
    """The tokens of ids, one after another."""
    known: dict[int, Token] = {}
    specials = set(codec.specials.values())
    for number in ids:
        if number not in known:
            data = codec.decode_bytes([number])
            known[number] = Token(number=number, data=data, shown=visible(data), special=number in specials)
        yield known[number]


def visible(data: bytes) -> str:
    """Bytes as one line in which every character can be seen."""
    text = data.decode("utf-8", errors="backslashreplace")
    seated = "\u25cc" if text and unicodedata.category(text[0]) in ("Mn", "Me") else ""
    return seated + "".join(map(_sign, text))


def _sign(letter: str) -> str:
    if letter in SIGNS:
        return SIGNS[letter]
    if unicodedata.category(letter) not in SHAPELESS:
        return letter
    return ascii(letter)[1:-1]
