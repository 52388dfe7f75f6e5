"""Unigram: a text becomes its most probable tokens, whose probabilities are trained by EM and pruning.

A text is split into words first, each with one space before it, and into other runs of whitespace and of other
characters; a token is part of one of these. Joined, the tokens are the text.

Source: Kudo 2018, https://arxiv.org/abs/1804.10959
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from nanotx.errors import ConfigError, TextError, TokenizerError
from nanotx.tokenizers.base import REMEDY, UNKNOWN, Ids, Tokenizer, normalize_nfc, utf8
from nanotx.tokenizers.special_tokens import training_segments
from nanotx.tokenizers.storage import exactly
from nanotx.tokenizers.unigram.lattice import Lattice
from nanotx.tokenizers.unigram.training import learn_scores
from nanotx.tokenizers.words import (
    SPACED,
    PieceCache,
    WordTokenizer,
    WordTokenizerCodec,
    check_least,
    check_lengths,
    check_most,
    check_regex,
    check_tokens,
    count_words,
    cut,
)

LARGEST = 1e6  # absolute value of a score; one in an untrusted file must not overflow


@Tokenizer.register("unigram")
@dataclass(frozen=True, kw_only=True)
class Unigram(WordTokenizer):
    """Tokens with probabilities, selected to make the texts likely; every character of the texts is a token."""

    def train(self, texts: Iterable[str]) -> "UnigramCodec":
        """Return a codec with the tokens that make the texts most probable; only the counts of pieces are kept.

        Raises:
            TextError: a text holds a lone surrogate.
            TokenizerError: the texts are empty, have more characters than vocab_size, or too few substrings for it.
        """
        pieces = count_words("unigram", SPACED, training_segments(texts, self.special_tokens, self.nfc))
        others, letters = len(self.special_ids()), len(set("".join(pieces)))
        check_least("unigram", self.vocab_size, letters + others, "for each character")
        wanted = self.vocab_size - others
        scores, possible = learn_scores(pieces, wanted, self.min_frequency)
        check_most("unigram", self.vocab_size, possible + others, self.min_frequency)
        special_tokens = self.special_ids(wanted)
        return UnigramCodec(tuple(scores), tuple(scores.values()), special_tokens=special_tokens, nfc=self.nfc)

    @classmethod
    def from_dict(cls, table: dict[str, Any]) -> "UnigramCodec":
        """Return the codec of a list of tokens and one of their scores; see `Tokenizer.from_dict`."""
        kinds = {"regex": str, "nfc": bool, "special_tokens": dict[str, int], "ids": list[int]}
        exactly("unigram", table, {**kinds, "tokens": list[str], "scores": list[float]})
        check_regex("unigram", table["regex"], SPACED)
        try:
            return UnigramCodec(
                tuple(table["tokens"]),
                tuple(table["scores"]),
                special_tokens=table["special_tokens"],
                nfc=table["nfc"],
                ids=tuple(table["ids"]),
            )
        except ConfigError as error:
            raise TokenizerError(f"unigram: {error}") from None


@dataclass(frozen=True, eq=False)
class UnigramCodec(WordTokenizerCodec):
    """A trained Unigram tokenizer: token n has the id n, or ids[n]; only an imported tokenizer has `ids`.

    Raises:
        TokenizerError: a token, a score, an id or a special token is invalid.
        ConfigError: the name of a special token is invalid.
    """

    part = "unigram"
    tokens: tuple[str, ...] = field(repr=False)
    scores: tuple[float, ...] = field(repr=False)  # their log-probabilities
    ids: tuple[int, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        check_tokens(self.part, self.tokens)
        check_lengths(self.part, map(len, self.tokens))
        known = set(self.tokens)
        for token in self.tokens:
            if (foreign := next((letter for letter in token if letter not in known), None)) is not None:
                raise TokenizerError(
                    f"unigram: {token[:40]!r} is a token, but its character {foreign!r} is not one; expected "
                    "all of them."
                )
        if len(self.scores) != len(self.tokens):
            raise TokenizerError(
                f"unigram: {len(self.scores)} scores for {len(self.tokens)} tokens; expected one each."
            )
        for index, score in enumerate(self.scores):
            if not -LARGEST <= score <= LARGEST:
                raise TokenizerError(
                    f"unigram: score {index}: expected a number from {-LARGEST:g} to {LARGEST:g}, got {score!r}."
                )
        self._set_tokens(self.tokens, self.ids)

    def encode_ordinary(self, text: str) -> Ids:
        """Return the most probable tokens of each piece; see `Codec.encode_ordinary`."""
        self._check(text)
        encoded = map(self._memory.__getitem__, cut(SPACED, text))
        return np.frombuffer(bytearray().join(encoded), np.int32)

    def sample(self, text: str, dice: np.random.Generator, alpha: float = 1.0) -> Ids:
        """Return the ids of a random segmentation: that of each piece has a probability proportional to P ** alpha.

        Args:
            text: any text that `encode` accepts, without special tokens.
            dice: the random generator.
            alpha: 0 for all segmentations alike; the larger, the more often the most probable one is drawn.

        Raises:
            ConfigError: alpha is negative or NaN.
            TextError: as for `encode`.

        Source: Kudo 2018, section 3.3, with all segmentations instead of the l best.
        """
        if not 0 <= alpha < math.inf:
            raise ConfigError(f"unigram: alpha: expected a number of at least 0, got {alpha!r}.")
        if self.nfc:
            utf8(self.part, text)
        text = normalize_nfc(text) if self.nfc else text
        self._check(text)
        drawn = (self._lattice.sample(piece, dice, alpha) for piece in cut(SPACED, text))
        return np.frombuffer(bytearray().join(drawn), np.int32)

    def to_dict(self) -> dict[str, Any]:
        """Return the tokens, most probable first, and their log-probabilities."""
        return {
            "regex": SPACED,
            "nfc": self.nfc,
            "special_tokens": dict(self.special_tokens),
            "ids": list(self.ids),
            "tokens": list(self.tokens),
            "scores": list(self.scores),
        }

    @cached_property
    def _lattice(self) -> Lattice:
        entries = zip(self.scores, self.ids or range(len(self.tokens)), strict=True)
        return Lattice(dict(zip(self.tokens, entries, strict=True)), self.special_tokens.get(UNKNOWN))

    @cached_property
    def _memory(self) -> PieceCache:
        return PieceCache(self._lattice)

    def _check(self, text: str) -> None:
        """Raise TextError for a lone surrogate, or for an unknown character if there is no `<unk>`."""
        if UNKNOWN in self.special_tokens:
            utf8(self.part, text)
        elif not self._lattice.letters.issuperset(text):
            at = next(at for at, letter in enumerate(text) if letter not in self._lattice.letters)
            utf8(self.part, text[at], at)  # a lone surrogate has an error of its own
            raise TextError(
                f"unigram: {text[at]!r} (U+{ord(text[at]):04X}) at offset {at} is not one of the "
                f"{len(self._lattice.letters)} known characters; {REMEDY}."
            )
