"""Unigram: a text becomes its likeliest tokens, each of a probability of its own, learned by EM and pruning.

A text is cut into words first, each with the one space before it, other runs of white space and of other characters;
a token lies in one of these. Joined, the tokens are the text.

Source: Kudo 2018, https://arxiv.org/abs/1804.10959
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from nanotx.errors import ConfigError, TextError, TokenizerError
from nanotx.tokenizers.base import REMEDY, UNKNOWN, Codec, Ids, Tokenizer, normalize_nfc, utf8
from nanotx.tokenizers.special_tokens import join_bytes, tokens_by_id, training_segments
from nanotx.tokenizers.storage import exactly
from nanotx.tokenizers.unigram.lattice import Lattice
from nanotx.tokenizers.unigram.training import learn_scores
from nanotx.tokenizers.words import (
    SPACED,
    Memory,
    WordTokenizer,
    check_least,
    check_lengths,
    check_most,
    check_regex,
    check_tokens,
    count_words,
    cut,
)

LARGEST = 1e6  # of a score, either way: a stranger's must not overflow


@Tokenizer.register("unigram")
@dataclass(frozen=True, kw_only=True)
class Unigram(WordTokenizer):
    """Tokens with probabilities, selected to make the texts likely; every character of the texts is a token."""

    def train(self, texts: Iterable[str]) -> "UnigramCodec":
        """The tokens by which the texts are likeliest; what is kept of the texts is each piece once, and its count.

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
        """The codec of a list of tokens and one of their scores; see `Tokenizer.from_dict`."""
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
class UnigramCodec(Codec):
    """Token number n has the id n, or the nth of `ids`; only a tokenizer that came from elsewhere has `ids`.

    Raises:
        TokenizerError: a token, a score, an id or a special that cannot be.
        ConfigError: a special's name is none.
    """

    part = "unigram"
    splittable = True
    tokens: tuple[str, ...] = field(repr=False)
    scores: tuple[float, ...] = field(repr=False)  # their log-probabilities
    special_tokens: Mapping[str, int] = field(default_factory=dict)
    nfc: bool = False
    ids: tuple[int, ...] = field(default=(), repr=False)
    vocab_size: int = field(init=False)
    _tokens: tuple[bytes | None, ...] = field(init=False, repr=False)  # by id

    def __post_init__(self) -> None:
        check_tokens(self.part, self.tokens)
        check_lengths(self.part, map(len, self.tokens))
        known = set(self.tokens)
        for token in self.tokens:
            if (foreign := next((letter for letter in token if letter not in known), None)) is not None:
                raise TokenizerError(
                    f"unigram: {token[:40]!r} is a token and {foreign!r} is none; expected all its characters."
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
        tokens = tokens_by_id(
            self.part, [token.encode("utf-8") for token in self.tokens], self.ids, self.special_tokens
        )
        object.__setattr__(self, "vocab_size", len(tokens))
        object.__setattr__(self, "_tokens", tokens)

    def encode_ordinary(self, text: str) -> Ids:
        """The likeliest tokens of each piece; see `Codec.encode_ordinary`."""
        self._check(text)
        found = map(self._memory.__getitem__, cut(SPACED, text))
        return np.frombuffer(bytearray().join(found), np.int32)

    def sample(self, text: str, dice: np.random.Generator, alpha: float = 1.0) -> Ids:
        """The ids of the text, cut in a way drawn at random: each piece's with a probability as P(way) to the `alpha`.

        Args:
            text: any that `encode` takes; all of it is ordinary.
            dice: what draws.
            alpha: 0 draws all ways alike; the larger, the more often the likeliest is drawn.

        Raises:
            ConfigError: alpha is negative, or no number.
            TextError: as of `encode`.

        Source: Kudo 2018, section 3.3, with all ways where the paper may take the l best.
        """
        if not 0 <= alpha < math.inf:
            raise ConfigError(f"unigram: alpha: expected a number of at least 0, got {alpha!r}.")
        if self.nfc:
            utf8(self.part, text)
        text = normalize_nfc(text) if self.nfc else text
        self._check(text)
        drawn = (self._lattice.sample(piece, dice, alpha) for piece in cut(SPACED, text))
        return np.frombuffer(bytearray().join(drawn), np.int32)

    def decode_bytes(self, ids: Iterable[Any]) -> bytes:
        """The tokens, joined; see `Codec.decode_bytes`."""
        return join_bytes(self.part, self._tokens, self.check_ids(ids).tolist())

    def to_dict(self) -> dict[str, Any]:
        """The tokens, the likeliest first, and their log-probabilities."""
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
        found = zip(self.scores, self.ids or range(len(self.tokens)), strict=True)
        return Lattice(dict(zip(self.tokens, found, strict=True)), self.special_tokens.get(UNKNOWN))

    @cached_property
    def _memory(self) -> Memory:
        return Memory(self._lattice)

    def _check(self, text: str) -> None:
        """Refuse a text with a lone surrogate, or with one that is no token where there is no `<unk>`."""
        if UNKNOWN in self.special_tokens:
            utf8(self.part, text)
        elif not self._lattice.letters.issuperset(text):
            at = next(at for at, letter in enumerate(text) if letter not in self._lattice.letters)
            utf8(self.part, text[at], at)  # a lone surrogate has an error of its own
            raise TextError(
                f"unigram: {text[at]!r} (U+{ord(text[at]):04X}) at offset {at} is none of the "
                f"{len(self._lattice.letters)} characters that were learned; {REMEDY}."
            )
