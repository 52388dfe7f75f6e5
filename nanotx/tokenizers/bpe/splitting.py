"""Split a text into the pieces within which BPE merges, and count them.

A *piece* is a match of the pattern; unmatched text is a piece of its own, so that the pieces, joined, are the text for
any regex. A *part* is a run of pieces that ends at a seam: a position at which every named pattern begins a new piece,
whatever comes before or after it. Parts are found by a regex that is much simpler than the pattern, and most of them
are in a cache, so the pattern is rarely run.

Why a position is a seam: both patterns match as many letters as there are, and no piece continues after a letter with
anything else; so an ASCII letter before another ASCII character ends a piece. After a character that is not whitespace,
whitespace begins a new piece, except a newline, which in gpt4 may belong to the punctuation before it. No pattern looks
behind; they look ahead only after whitespace, where no part ends, except in gpt4 after the last newline of whitespace,
which its pattern matches without looking ahead.

`count` below is for numba (`compiled.py`); in the interpreter the Counter of the standard library is faster.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from nanotx.errors import TokenizerError
from nanotx.tokenizers.regexes import ASCII, compile_source, name_of

BLANK = "\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\\t\\x0b\\x0c "  # and \r and \n: what \s is
LETTERS = re.compile("[^A-Za-z]*[A-Za-z]*")
BLANKS = {
    "gpt2": re.compile(rf"[{BLANK}\r\n]*[^{BLANK}\r\n]*"),
    "gpt4": re.compile(rf"[{BLANK}]*[^{BLANK}\r\n]*(?:[{BLANK}\r\n]*[\r\n])?"),
}
BLOCK = 1 << 20  # characters of a text that are cut at once


class Splitter:
    """Split texts by a regex.

    Args:
        source: the regex.
        whole: refuse a text with characters that the regex does not match.

    Raises:
        ConfigError: the regex is invalid or too large to compile.
    """

    def __init__(self, source: str, whole: bool = False) -> None:
        self.source, self.whole = source, whole
        self.name = name_of(source)
        self._regex = compile_source(source)
        self._ascii = re.compile(ASCII[self.name]) if self.name in ASCII else None

    def blocks(self, text: str) -> Iterator[str]:
        """Yield the text in blocks that end at seams, so that the pieces of a long text are never all in memory."""
        at = 0
        while self._ascii and len(text) - at > BLOCK:
            end = next((end for end in range(at + BLOCK, len(text)) if self._seam(text, end)), len(text))
            yield text[at:end]
            at = end
        if at < len(text):
            yield text[at:]

    def _seam(self, text: str, at: int) -> bool:
        """Return whether a run of ASCII letters ends here: a seam of every named pattern."""
        last, here = text[at - 1], text[at]
        return last.isascii() and last.isalpha() and here.isascii() and not here.isalpha()

    def parts(self, text: str) -> list[str]:
        """Split a text into parts; joined, they are the text. With a regex of the user's own, they are its pieces.

        Such a piece is not split again: alone, a regex that depends on what is before it may split it further.
        """
        if self._ascii is None:
            return self.pieces(text)
        return (LETTERS if self.quick(text) else BLANKS[self.name]).findall(text)

    def pieces_of(self, part: str) -> list[str]:
        """Split one of the `parts` of a text into pieces."""
        return [part] if self._ascii is None else self.pieces(part)

    def quick(self, text: str) -> bool:
        """Return whether the seams of this text are the ends of its runs of letters."""
        return self._ascii is not None and text.isascii()

    def pieces(self, text: str) -> list[str]:
        """Split a text, or a part of one with a named pattern, into pieces; joined, they are the text.

        Raises:
            TokenizerError: a regex of the user's own takes forever on this text, or leaves something out.
        """
        if self._ascii is not None:
            pieces: list[str] = self._ascii.findall(text) if text.isascii() else self._regex.findall(text)
            return pieces
        patience = 10 + len(text) / 100_000  # seconds
        try:
            if not self._regex.groups:
                pieces = self._regex.findall(text, timeout=patience)
                if "".join(pieces) == text:
                    return pieces
            return list(self._walk(text, patience))
        except TimeoutError:
            raise TokenizerError(
                f"bpe: the pattern {self.source!r} needs more than {patience:.0f} seconds for a text of "
                f"{len(text)} characters; try one without nested repeats, such as gpt4."
            ) from None
        except MemoryError:  # the regex module limits backtracking to a gigabyte
            raise TokenizerError(
                f"bpe: the pattern {self.source!r} needs too much memory for a text of {len(text)} characters; try one "
                "without repeats of groups, such as gpt4."
            ) from None

    def _walk(self, text: str, patience: float) -> Iterator[str]:
        """Yield the pieces and the gaps between them, in whichever direction the regex matches."""
        at = 0
        for match in self._regex.finditer(text, timeout=patience):
            start, end = max(at, match.start()), match.end()
            if end > start:
                self._check_gap(text, at, start)
                yield from filter(None, (text[at:start], text[start:end]))
                at = end
        if at < len(text):
            self._check_gap(text, at, len(text))
            yield text[at:]

    def _check_gap(self, text: str, start: int, end: int) -> None:
        if self.whole and start < end:
            character = text[start]
            raise TokenizerError(
                f"bpe: the pattern {self.source!r} leaves out {character!r} (U+{ord(character):04X}) at offset "
                f"{start}; expected one that matches every character; try '|(?s:.)' at its end."
            )


Row = Any  # of whole numbers
LETTER = np.zeros(256, np.uint8)
LETTER[[*range(ord("A"), ord("Z") + 1), *range(ord("a"), ord("z") + 1)]] = 1
SPREAD = 0x9E3779B1  # odd, near 2^32 divided by the golden ratio: Knuth, The Art of Computer Programming, volume 3, 6.4


def count_parts(count: Callable[..., Any], text: str) -> Counter[str]:
    """Return how often each part of an ASCII text occurs; see `Splitter.parts`."""
    data = np.frombuffer(text.encode("ascii"), np.uint8)
    size = 1 << max(len(data), 4).bit_length()  # a part has two bytes or more, but for the first and the last
    starts, ends, counts = (np.zeros(size, np.int32) for _ in range(3))
    used = count(data, LETTER, starts, ends, counts)
    rows = (row[used].tolist() for row in (starts, ends, counts))
    return Counter({text[start:end]: occurrences for start, end, occurrences in zip(*rows, strict=True)})


def count(data: Row, letter: Row, starts: Row, ends: Row, counts: Row) -> Row:
    """Count the parts in a hash table; return the used slots in order of first use.

    Args:
        data: the bytes.
        letter: whether each byte value is a letter; a part ends between a letter and another byte.
        starts: zeros, one per slot; their number is a power of two.
        ends: likewise.
        counts: likewise.
    """
    used = [0]
    start, spread, size = 0, 0, len(data)
    for at in range(size):
        spread = (spread ^ int(data[at])) * SPREAD & 0xFFFFFFFF
        if at + 1 < size and not (letter[data[at]] and not letter[data[at + 1]]):
            continue
        end = at + 1
        slot = (spread ^ spread >> 15) & (len(starts) - 1)
        while counts[slot] > 0:
            same, other = ends[slot] - starts[slot] == end - start, starts[slot]
            for step in range(end - start):
                if not same:
                    break
                same = data[other + step] == data[start + step]
            if same:
                break
            slot = (slot + 1) & (len(starts) - 1)
        if counts[slot] == 0:
            starts[slot], ends[slot] = start, end
            used.append(slot)
        counts[slot] += 1
        start, spread = end, 0
    return np.array(used[1:], np.int64)
