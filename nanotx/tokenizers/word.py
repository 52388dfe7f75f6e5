"""One token per word: the most frequent words, marks of punctuation and runs of white space of the training texts.

Joined, the tokens are the text. There is no end of words, so most texts but those learned from hold an unknown one.

Source: Bengio et al. 2003, https://www.jmlr.org/papers/v3/bengio03a.html, section 4: marks of punctuation are words,
and rare words are one symbol; here white space counts, too.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from reprlib import repr as brief
from typing import Any

import numpy as np

from nanotx.errors import ConfigError, TextError, TokenizerError
from nanotx.tokenizers.base import REMEDY, UNKNOWN, Ids, Tokenizer, utf8
from nanotx.tokenizers.special_tokens import training_segments
from nanotx.tokenizers.storage import exactly
from nanotx.tokenizers.words import (
    WORDS,
    WordTokenizer,
    WordTokenizerCodec,
    check_least,
    check_most,
    check_regex,
    check_tokens,
    count_words,
    cut,
)


@Tokenizer.register("word")
@dataclass(frozen=True, kw_only=True)
class Word(WordTokenizer):
    """The most frequent words; ties go to the smaller by code points. Any other word needs `<unk>`."""

    def train(self, texts: Iterable[str]) -> "WordCodec":
        """Return a codec with the most frequent words; without `<unk>` vocab_size must allow all words of the texts.

        Raises:
            TextError: a text holds a lone surrogate.
            TokenizerError: the texts are empty, or have fewer words or more; says how many.
        """
        counts = count_words("word", WORDS, training_segments(texts, self.special_tokens, self.nfc))
        words = [word for word in sorted(counts) if counts[word] >= self.min_frequency]
        words.sort(key=counts.__getitem__, reverse=True)  # stable: words of one count stay in order
        wanted = self.vocab_size - len(self.special_ids())
        if not self.unknown:
            if len(words) < len(counts):
                raise TokenizerError(
                    f"word: min_frequency={self.min_frequency} leaves out {len(counts) - len(words)} of the "
                    f"{len(counts)} words of these texts; try --tokenizer.unknown, which makes them {UNKNOWN}, or "
                    "--tokenizer.min-frequency 1."
                )
            why = f"a word each, or --tokenizer.unknown, which makes the others {UNKNOWN}"
            check_least("word", self.vocab_size, self.vocab_size - wanted + len(words), why)
        check_most("word", self.vocab_size, self.vocab_size - wanted + len(words), self.min_frequency)
        special_tokens = self.special_ids(wanted)
        return WordCodec(tuple(words[:wanted]), special_tokens=special_tokens, nfc=self.nfc)

    @classmethod
    def from_dict(cls, table: dict[str, Any]) -> "WordCodec":
        """Return the codec of a list of words; see `Tokenizer.from_dict`."""
        exactly("word", table, {"regex": str, "nfc": bool, "special_tokens": dict[str, int], "words": list[str]})
        check_regex("word", table["regex"], WORDS)
        try:
            return WordCodec(tuple(table["words"]), special_tokens=table["special_tokens"], nfc=table["nfc"])
        except ConfigError as error:
            raise TokenizerError(f"word: {error}") from None


@dataclass(frozen=True, eq=False)
class WordCodec(WordTokenizerCodec):
    """The id of a word is its place in the list.

    Raises:
        TokenizerError: a word or the id of a special token is invalid.
        ConfigError: the name of a special token is invalid.
    """

    part = "word"
    words: tuple[str, ...] = field(repr=False)

    def __post_init__(self) -> None:
        check_tokens(self.part, self.words)
        self._set_tokens(self.words)

    def encode_ordinary(self, text: str) -> Ids:
        """Return the places of the words; see `Codec.encode_ordinary`."""
        places, pieces = self._places, cut(WORDS, text)
        if UNKNOWN in self.special_tokens:
            utf8(self.part, text)
            unknown = self.special_tokens[UNKNOWN]
            return np.array([places.get(piece, unknown) for piece in pieces], np.int32)
        try:
            return np.array([places[piece] for piece in pieces], np.int32)
        except KeyError:
            raise self._refusal(pieces) from None

    def to_dict(self) -> dict[str, Any]:
        """Return the words, the most frequent first."""
        return {"regex": WORDS, "nfc": self.nfc, "special_tokens": dict(self.special_tokens), "words": list(self.words)}

    @cached_property
    def _places(self) -> dict[str, int]:
        return {word: place for place, word in enumerate(self.words)}

    def _refusal(self, pieces: list[str]) -> TextError:
        """Return the error for a text with an unknown word."""
        offset = 0
        for piece in pieces:
            if piece not in self._places:
                break
            offset += len(piece)
        utf8(self.part, piece, offset)  # a lone surrogate has an error of its own
        return TextError(
            f"word: {brief(piece)}, which begins with {piece[0]!r} (U+{ord(piece[0]):04X}) at offset {offset}, is none "
            f"of the {len(self.words)} words; {REMEDY}."
        )
