"""Random strings, each written twice: only its first copy predicts the second.

What continues a copy cannot be memorised, and the strings have random lengths, so that no fixed distance helps
either: a model has to find what followed the same character before. It is the text on which induction heads form
(docs/induction.md).

Source: Olsson et al. 2022, https://arxiv.org/abs/2209.11895, the repeated random sequences
"""

import math
import string
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from nanotx.config.schema import check_max, check_min
from nanotx.data.corpus.base import Corpus
from nanotx.errors import ConfigError

ALPHABET = string.ascii_letters + string.digits


@Corpus.register("repeats")
@dataclass(frozen=True, kw_only=True)
class Repeats(Corpus):
    """Random strings of letters and digits, each written twice; no character is twice in a string."""

    size: int = 1_000_000  # length of the text in characters; the last string is cut there
    shortest: int = 4  # fewest characters of a string
    longest: int = 32  # most characters of a string; all lengths between are as likely
    seed: int = 1  # seed of the strings, which are the same on every machine

    def __post_init__(self) -> None:
        super().__post_init__()
        check_min(self, 0, "seed")
        check_min(self, 1, "size", "shortest")
        check_max(self, 1_000_000_000, "size")
        check_max(self, len(ALPHABET), "longest")
        if self.shortest > self.longest:
            raise ConfigError(f"repeats: shortest={self.shortest} is more than longest={self.longest}.")

    def text(self) -> str:
        """Return the strings, each followed by itself."""
        pieces, size = list[str](), 0
        for word in self.words():
            pieces += (word, word)
            size += 2 * len(word)
            if size >= self.size:
                break
        return "".join(pieces)[: self.size]

    def words(self) -> Iterator[str]:
        """Yield strings without end."""
        draw = Random(self.seed).random  # of all methods, this one promises to stay the same
        lengths = self.longest - self.shortest + 1
        while True:
            left, word = list(ALPHABET), list[str]()
            for _ in range(self.shortest + int(draw() * lengths)):
                word.append(left.pop(int(draw() * len(left))))
            yield "".join(word)

    def floor(self) -> float:
        """Return the bits per byte of the validation text, for a reader who has read all text before it.

        The first character that comes again tells where a string has ended; until its copy ends nothing is uncertain.
        """
        text = self.text()
        cut, bits, place = self.cut(len(text)), 0.0, 0
        words = self.words()
        while place < len(text):
            word = next(words)
            for offset in range(min(2 * len(word), len(text) - place)):
                bits += self.surprisal(len(word), offset) if place + offset >= cut else 0.0
            place += 2 * len(word)
        return bits / (len(text) - cut)

    def surprisal(self, length: int, offset: int) -> float:
        """Return the surprisal in bits of a character: the one at `offset` in a string of some length and its copy."""
        still_possible = self.longest - max(self.shortest, offset) + 1  # lengths, before this character is read
        if offset > length:
            return 0.0
        if offset == length:
            return math.log2(still_possible)
        ends = 1 if offset >= self.shortest else 0
        return math.log2(len(ALPHABET) - offset) - math.log2((still_possible - ends) / still_possible)
