"""Split a text into words before they become tokens, with a cache of frequent words.

Both regexes match any character, and the longest run of its kind: the pieces, joined, are the text. A word is a run of
letters, marks, numbers and `_`. A run of whitespace is a piece of its own, so that none is lost.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from reprlib import repr as brief
from typing import Any

import regex

from nanotx.config.schema import check_max, check_min
from nanotx.errors import TokenizerError
from nanotx.tokenizers.base import Codec, Tokenizer, utf8
from nanotx.tokenizers.special_tokens import (
    MAX_IDS,
    assign_ids,
    check_special_tokens,
    join_bytes,
    never_split,
    tokens_by_id,
)

WORDS = r"[\p{L}\p{M}\p{N}_]+|\s+|[^\p{L}\p{M}\p{N}_\s]"
"""A word, a run of whitespace, or one other character; a text split between two pieces gives the same pieces."""
SPACED = r" ?[\p{L}\p{M}\p{N}_]+| ?[^\p{L}\p{M}\p{N}_\s]+|\s+(?= \S)|\s+"
"""A word or a run of other characters with one space before it, if there is one, or a run of other whitespace."""

SHORT = 64  # characters of a piece that is worth remembering
MEMORY = 1 << 16  # pieces remembered
LONGEST = 256  # characters of a token in an untrusted file

_CUTS = {source: regex.compile(source) for source in (WORDS, SPACED)}


@dataclass(frozen=True, kw_only=True)
class WordTokenizer(Tokenizer):
    """Fields of the tokenizers that are trained on the words of the texts and how often each occurs."""

    vocab_size: int = 4096  # number of ids, special tokens included
    min_frequency: int = 1  # minimum number of occurrences of a word, pair or substring that becomes a token
    special_tokens: tuple[str, ...] = ()  # special tokens such as <|endoftext|>, with ids of their own
    unknown: bool = False  # encode a word or piece with any other character as <unk>, which loses it
    nfc: bool = False  # normalise every text to Unicode's normal form C first

    def __post_init__(self) -> None:
        check_special_tokens(self.special_tokens)
        check_min(self, 1 + len(self.special_ids()), "vocab_size")
        check_max(self, MAX_IDS, "vocab_size")
        check_min(self, 1, "min_frequency")

    @property
    def splittable(self) -> bool:  # type: ignore[override]
        """Return whether no special token could be split; see `Tokenizer.splittable`."""
        return never_split(self.special_tokens)

    def special_ids(self, first: int = 0) -> dict[str, int]:
        """Return the ids of the special tokens, `<unk>` among them if there is one, from `first` on."""
        return assign_ids(first, self.special_tokens, self.unknown)


@dataclass(frozen=True, eq=False, kw_only=True)
class WordTokenizerCodec(Codec):
    """What the trained tokenizers of words have in common: tokens that are texts, and special tokens."""

    splittable = True
    special_tokens: Mapping[str, int] = field(default_factory=dict)
    nfc: bool = False
    vocab_size: int = field(init=False)
    _tokens: tuple[bytes | None, ...] = field(init=False, repr=False)  # by id

    def decode_bytes(self, ids: Iterable[Any]) -> bytes:
        """Return the texts of the tokens, joined; see `Codec.decode_bytes`."""
        return join_bytes(self.part, self._tokens, self.check_ids(ids).tolist())

    def _set_tokens(self, texts: Iterable[str], ids: tuple[int, ...] = ()) -> None:
        """Give the text n the id n, or ids[n].

        Raises:
            TokenizerError: an id or a special token is invalid.
        """
        tokens = tokens_by_id(self.part, [text.encode("utf-8") for text in texts], ids, self.special_tokens)
        object.__setattr__(self, "vocab_size", len(tokens))
        object.__setattr__(self, "_tokens", tokens)


def cut(source: str, text: str) -> list[str]:
    """Split a text into pieces by one of the two regexes; joined, they are the text."""
    pieces: list[str] = _CUTS[source].findall(text)
    return pieces


def count_words(part: str, source: str, texts: Iterable[str]) -> Counter[str]:
    """Return how often each piece occurs in the texts; nothing else of them is kept.

    Raises:
        TextError: a text holds a lone surrogate.
        TokenizerError: the texts are empty.
    """
    pieces = Counter[str]()
    for text in texts:
        utf8(part, text)
        pieces.update(cut(source, text))
    if not pieces:
        raise TokenizerError(f"{part}: an empty text has no words; try a text with at least one character.")
    return pieces


def check_tokens(part: str, tokens: Iterable[str]) -> None:
    """Check a vocabulary: at least one token, none empty, none twice, no lone surrogate.

    Raises:
        TokenizerError: a token is invalid; says which.
    """
    seen = set[str]()
    for index, token in enumerate(tokens):
        if not token or token in seen:
            raise TokenizerError(f"{part}: token {index}: {brief(token)} is {'a duplicate' if token else 'empty'}.")
        utf8(f"{part}: token {index}", token)
        seen.add(token)
    if not seen:
        raise TokenizerError(f"{part}: expected at least one token, got none.")


def check_regex(part: str, regex: str, expected: str) -> None:
    """Raise TokenizerError unless a file was trained with the regex of this version."""
    if regex != expected:
        raise TokenizerError(f"{part}: regex: expected {expected!r}, got {brief(regex)}.")


def check_lengths(part: str, lengths: Iterable[int]) -> None:
    """Raise TokenizerError if a token is longer than LONGEST characters."""
    for index, length in enumerate(lengths):
        if length > LONGEST:
            raise TokenizerError(f"{part}: token {index}: expected at most {LONGEST} characters, got {length}.")


class PieceCache(dict[str, bytes]):
    """A cache of the ids of pieces, as the bytes of an int32 array; a full cache is emptied."""

    def __init__(self, ids_of: Callable[[str], bytes | None]) -> None:
        super().__init__()
        self.ids_of = ids_of

    def __missing__(self, piece: str) -> bytes:
        ids = self.ids_of(piece)
        if ids is None:
            raise KeyError(piece)
        if len(piece) <= SHORT:
            if len(self) >= MEMORY:
                self.clear()
            self[piece] = ids
        return ids

    def knows(self, piece: str) -> bool:
        """Return whether the piece has ids."""
        return piece in self or self.ids_of(piece) is not None


def check_least(part: str, vocab_size: int, least: int, why: str) -> None:
    """Raise TokenizerError if a vocabulary is smaller than the texts need."""
    if vocab_size < least:
        raise TokenizerError(
            f"{part}: vocab_size={vocab_size} is too small: these texts need at least {least}, {why}; "
            f"try --tokenizer.vocab-size {least}, or more."
        )


def check_most(part: str, vocab_size: int, most: int, min_frequency: int) -> None:
    """Raise TokenizerError if a vocabulary is larger than the texts allow."""
    if vocab_size > most:
        often = "" if min_frequency == 1 else f" of min_frequency={min_frequency}"
        raise TokenizerError(
            f"{part}: vocab_size={vocab_size} cannot be reached: these texts allow {most}{often}; "
            f"try --tokenizer.vocab-size {most}, or more text."
        )
