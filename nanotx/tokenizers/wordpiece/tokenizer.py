"""WordPiece: words in parts learned by likelihood; from the left, the longest part that fits comes first.

A token begins a piece (a word, a run of white space, a mark of punctuation) or goes on with one; the latter is written
with `##` before it. No two tokens may be written alike: a text that itself begins with `##` begins no piece.
Joined without `##`, the tokens are the text.

Sources: Schuster & Nakajima 2012, https://research.google/pubs/pub37842/; `##` and the longest match, Devlin et al.
2018, https://arxiv.org/abs/1810.04805, which loses white space where this does not.

Source: Devlin et al. 2018, https://arxiv.org/abs/1810.04805, whose published code cuts so.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from reprlib import repr as brief
from typing import Any, Literal

import numpy as np

from nanotx.errors import ConfigError, TextError, TokenizerError
from nanotx.tokenizers.base import REMEDY, UNKNOWN, Ids, Tokenizer, utf8
from nanotx.tokenizers.special_tokens import training_segments
from nanotx.tokenizers.storage import exactly
from nanotx.tokenizers.wordpiece.training import Token, alphabet_of, learn_tokens
from nanotx.tokenizers.words import (
    WORDS,
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


@Tokenizer.register("wordpiece")
@dataclass(frozen=True, kw_only=True)
class WordPiece(WordTokenizer):
    """Pieces of words, merged by likelihood; each character is one as a beginning and as a continuation of a word."""

    score: Literal["gain", "ratio"] = (
        "gain"  # pair to merge: gain for the likeliest texts, ratio for the likeliest occurrence
    )

    def train(self, texts: Iterable[str]) -> "WordPieceCodec":
        """Return a codec with the alphabet and the tokens merged from it; only the counts of pieces are kept.

        Raises:
            TextError: a text holds a lone surrogate.
            TokenizerError: the texts are empty, have more characters than vocab_size, or too few pairs for it.
        """
        pieces = count_words("wordpiece", WORDS, training_segments(texts, self.special_tokens, self.nfc))
        alphabet, others = alphabet_of(pieces), len(self.special_ids())
        why = "for each character as a beginning and as a continuation"
        check_least("wordpiece", self.vocab_size, len(alphabet) + others, why)
        wanted = self.vocab_size - others
        tokens = learn_tokens(pieces, alphabet, wanted, self.min_frequency, self.score)
        check_most("wordpiece", self.vocab_size, len(tokens) + others, self.min_frequency)
        special_tokens = self.special_ids(wanted)
        return WordPieceCodec(tuple(tokens), special_tokens=special_tokens, nfc=self.nfc)

    @classmethod
    def from_dict(cls, table: dict[str, Any]) -> "WordPieceCodec":
        """Return the codec of a list of tokens as they are written; see `Tokenizer.from_dict`."""
        kinds = {"regex": str, "nfc": bool, "special_tokens": dict[str, int], "ids": list[int], "tokens": list[str]}
        exactly("wordpiece", table, kinds)
        check_regex("wordpiece", table["regex"], WORDS)
        try:
            return WordPieceCodec(
                tuple(map(read_written, table["tokens"])),
                special_tokens=table["special_tokens"],
                nfc=table["nfc"],
                ids=tuple(table["ids"]),
            )
        except ConfigError as error:
            raise TokenizerError(f"wordpiece: {error}") from None


@dataclass(frozen=True, eq=False)
class WordPieceCodec(WordTokenizerCodec):
    """A trained WordPiece tokenizer: token n has the id n, or ids[n]; only an imported tokenizer has `ids`.

    Raises:
        TokenizerError: a token, an id or a special token is invalid.
        ConfigError: the name of a special token is invalid.
    """

    part = "wordpiece"
    tokens: tuple[Token, ...] = field(repr=False)  # each a text, and whether it begins a piece
    ids: tuple[int, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        check_tokens(self.part, map(written, self.tokens))
        check_lengths(self.part, (len(text) for text, _ in self.tokens))
        self._set_tokens((text for text, _ in self.tokens), self.ids)

    def encode_ordinary(self, text: str) -> Ids:
        """Return the parts of each piece; see `Codec.encode_ordinary`."""
        if UNKNOWN in self.special_tokens:
            utf8(self.part, text)  # a lone surrogate is an error, not an unknown token
        try:
            encoded = map(self._memory.__getitem__, cut(WORDS, text))
            return np.frombuffer(bytearray().join(encoded), np.int32)
        except KeyError:
            raise self._refusal(text) from None

    def to_dict(self) -> dict[str, Any]:
        """Return the tokens as they are written: `##` before those that continue a piece."""
        return {
            "regex": WORDS,
            "nfc": self.nfc,
            "special_tokens": dict(self.special_tokens),
            "ids": list(self.ids),
            "tokens": [written(token) for token in self.tokens],
        }

    @cached_property
    def _memory(self) -> PieceCache:
        ids = self.ids or range(len(self.tokens))
        return PieceCache(Greedy(dict(zip(self.tokens, ids, strict=True)), self.special_tokens.get(UNKNOWN)))

    def _refusal(self, text: str) -> TextError:
        """Return the error for a text in which a piece has no tokens: its first character that no token holds."""
        offset, known = 0, set().union(*(token for token, _ in self.tokens))
        for piece in cut(WORDS, text):
            if not self._memory.knows(piece):
                break
            offset += len(piece)
        foreign = next((at for at, letter in enumerate(piece) if letter not in known), 0)
        at = foreign if not foreign or self._memory.knows(piece[:foreign]) else 0
        utf8(self.part, piece[at], offset + at)  # a lone surrogate has an error of its own
        return TextError(
            f"wordpiece: {piece[at]!r} (U+{ord(piece[at]):04X}) at offset {offset + at}, in {brief(piece)}, is "
            f"beyond the {len(self.tokens)} tokens; {REMEDY}."
        )


MARK = "##"  # prefix of a written token that continues a piece


def written(token: Token) -> str:
    """Return a token as a vocabulary writes it.

    Raises:
        TokenizerError: it is empty, or begins a piece and would be read as one that continues it.
    """
    text, begins = token
    if not text:
        raise TokenizerError("wordpiece: a token is empty; expected at least one character.")
    if begins and text.startswith(MARK) and text != MARK:
        raise TokenizerError(
            f"wordpiece: the token {text[:40]!r} begins a piece, but is written like {text[2:42]!r} continuing "
            "one; expected distinguishable tokens."
        )
    return text if begins else MARK + text


def read_written(text: str) -> Token:
    """Return the token of its written form."""
    return (text, True) if text == MARK or not text.startswith(MARK) else (text.removeprefix(MARK), False)


class Greedy:
    """Cuts pieces into the ids of tokens; where that cannot be, into the one id of `<unk>`, if there is one."""

    def __init__(self, ids: Mapping[Token, int], unknown: int | None) -> None:
        self.beginning = {text: token_id for (text, begins), token_id in ids.items() if begins}
        self.inside = {text: token_id for (text, begins), token_id in ids.items() if not begins}
        self.longest = max(len(text) for text, _ in ids)
        self.unknown = unknown

    def __call__(self, piece: str) -> bytes | None:
        """Return the ids, as the bytes of an int32 array; None where there are none."""
        ids, at, known = list[int](), 0, self.beginning
        while at < len(piece):
            for end in range(min(at + self.longest, len(piece)), at, -1):
                token_id = known.get(piece[at:end])
                if token_id is not None:
                    break
            else:
                return None if self.unknown is None else np.int32(self.unknown).tobytes()
            ids.append(token_id)
            at, known = end, self.inside
        return np.array(ids, np.int32).tobytes()
