"""Cut a text into the pieces within which BPE merges, and count them.

A *piece* is a match of the pattern; what it leaves unmatched is a piece of its own, so that the pieces of a
text, joined, are the text, whatever the regex. A *part* is a run of pieces that ends at a seam: a place where
each named pattern surely begins a new piece, and cuts what follows as if nothing stood before it, and what comes
before as if nothing followed. Parts are found by a regex that is much simpler than the pattern, and most of them
were met before: what was learned of a part is then looked up, and the pattern is never asked.

The seams, and why they are ones: both patterns take letters for as long as there are any, and no piece of theirs
goes on after a letter with anything else; so an ASCII letter before an ASCII character that is none ends a piece.
After what is not blank, a blank begins a new piece, but a new line does not: in gpt4 it may belong to the signs
before it. No pattern looks back, and ahead they look after blanks only, where no part ends, but for gpt4 after
the last new line of blanks, which its pattern takes without a look ahead.

The counting below is for a compiler (`compiled.py`); the interpreter has the standard library's Counter, which is
quicker there.
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
    """Cuts texts by one regex.

    Args:
        source: the regex.
        whole: refuse a text that has characters which the regex does not match.

    Raises:
        ConfigError: this is no regex, or one too large to compile.
    """

    def __init__(self, source: str, whole: bool = False) -> None:
        self.source, self.whole = source, whole
        self.name = name_of(source)
        self._regex = compile_source(source)
        self._ascii = re.compile(ASCII[self.name]) if self.name in ASCII else None

    def blocks(self, text: str) -> Iterator[str]:
        """The text in stretches that end at seams, so that a long one is never held in pieces all at once."""
        at = 0
        while self._ascii and len(text) - at > BLOCK:
            end = next((end for end in range(at + BLOCK, len(text)) if self._seam(text, end)), len(text))
            yield text[at:end]
            at = end
        if at < len(text):
            yield text[at:]

    def _seam(self, text: str, at: int) -> bool:
        """Whether an ASCII letter ends here: a seam of every named pattern."""
        last, here = text[at - 1], text[at]
        return last.isascii() and last.isalpha() and here.isascii() and not here.isalpha()

    def parts(self, text: str) -> list[str]:
        """The text in parts; joined, they are the text. With a regex of the user's own, they are its pieces."""
        if self._ascii is None:
            return self.pieces(text)
        return (LETTERS if self.quick(text) else BLANKS[self.name]).findall(text)

    def quick(self, text: str) -> bool:
        """Whether the seams of this text are where its letters end."""
        return self._ascii is not None and text.isascii()

    def pieces(self, text: str) -> list[str]:
        """The text, or a part of one, in pieces; joined, they are the text.

        Raises:
            TokenizerError: a regex of the user's own takes forever on this text, or leaves something out.
        """
        if self._ascii is not None:
            found: list[str] = self._ascii.findall(text) if text.isascii() else self._regex.findall(text)
            return found
        patience = 10 + len(text) / 100_000  # seconds
        try:
            if not self._regex.groups:
                found = self._regex.findall(text, timeout=patience)
                if "".join(found) == text:
                    return found
            return list(self._walk(text, patience))
        except TimeoutError:
            raise TokenizerError(
                f"bpe: the pattern {self.source!r} needs more than {patience:.0f} seconds for a text of "
                f"{len(text)} characters; try one without nested repeats, such as gpt4."
            ) from None
        except MemoryError:  # the module keeps a gigabyte of places to go back to, and no more
            raise TokenizerError(
                f"bpe: the pattern {self.source!r} needs too much memory for a text of {len(text)} characters; try one "
                "without repeats of groups, such as gpt4."
            ) from None

    def _walk(self, text: str, patience: float) -> Iterator[str]:
        """The pieces and the gaps between them, whichever way the regex walks."""
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
            one = text[start]
            raise TokenizerError(
                f"bpe: the pattern {self.source!r} leaves out {one!r} (U+{ord(one):04X}) at offset {start}; "
                "expected one that matches every character: (?s:.) behind a last | takes what is left, one by one."
            )


Row = Any  # of whole numbers
LETTER = np.zeros(256, np.uint8)
LETTER[[*range(ord("A"), ord("Z") + 1), *range(ord("a"), ord("z") + 1)]] = 1
SPREAD = 0x9E3779B1  # an odd number near 2^32 divided by the golden ratio: Knuth, The Art, volume 3, section 6.4


def count_parts(count: Callable[..., Any], text: str) -> Counter[str]:
    """How often each part of an ASCII text occurs; see `Splitter.parts`."""
    data = np.frombuffer(text.encode("ascii"), np.uint8)
    size = 1 << max(len(data), 4).bit_length()  # a part has two bytes or more, but for the first and the last
    starts, ends, counts = (np.zeros(size, np.int32) for _ in range(3))
    used = count(data, LETTER, starts, ends, counts)
    rows = (row[used].tolist() for row in (starts, ends, counts))
    return Counter({text[start:end]: found for start, end, found in zip(*rows, strict=True)})


def count(data: Row, letter: Row, starts: Row, ends: Row, counts: Row) -> Row:
    """Count the parts, each in a slot of a hash table; gives the slots that are taken, in the order they were.

    Args:
        data: the bytes.
        letter: for each byte whether it is a letter; a part ends after one that is, before one that is not.
        starts: a zero for each slot, as many slots as a power of two.
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
