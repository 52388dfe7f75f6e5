"""Byte-level byte-pair encoding: the ids are the 256 bytes, then pairs of earlier ids, in the order learned.

A text is cut into pieces by a pattern, each piece into its bytes, and the bytes are merged, the earliest
learned pair first. Any text has ids, and they give it back exactly.

Source: Sennrich et al. 2016, https://arxiv.org/abs/1508.07909; over bytes, Radford et al. 2019 (GPT-2).
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from reprlib import repr as brief
from typing import Any

import numpy as np
import regex

from nanotx.config import at_least
from nanotx.errors import ConfigError, TokenizerError
from nanotx.tokenizers import Codec, Ids, Tokenizer, exactly, utf8
from nanotx.tokenizers._learning import learn_merges
from nanotx.tokenizers._merging import Memory, Pair, tokens_of
from nanotx.tokenizers._patterns import NAMED, Splitter, name_of, source_of


@Tokenizer.register("bpe")
@dataclass(frozen=True, kw_only=True)
class Bpe(Tokenizer):
    """Learns vocab_size - 256 merges; ties between pairs go to the smallest pair of ids."""

    vocab_size: int = 512
    pattern: str = "gpt4"  # "gpt2", "gpt4" (cl100k), or a regex of your own

    def __post_init__(self) -> None:
        at_least(self, 256, "vocab_size")
        source_of(self.pattern)

    def learn(self, texts: Iterable[str]) -> "BpeCodec":
        """The most frequent pairs of the texts' pieces.

        Raises:
            TextError: a text holds a lone surrogate.
            TokenizerError: the texts have too few pairs for this vocab_size.
        """
        source = source_of(self.pattern)
        splitter, pieces = Splitter(source), Counter[str]()
        for text in texts:
            utf8("bpe", text)
            pieces.update(splitter.pieces(text))
        wanted = self.vocab_size - 256
        merges = learn_merges({piece.encode(): count for piece, count in pieces.items()}, wanted)
        if len(merges) < wanted:
            possible = 256 + len(merges)
            raise TokenizerError(
                f"bpe: vocab_size={self.vocab_size} cannot be reached: these texts allow {possible}; "
                f"try --tokenizer.vocab-size {possible}, or more text."
            )
        return BpeCodec(tuple(merges), source)

    @classmethod
    def read(cls, table: dict[str, Any]) -> "BpeCodec":
        """The codec of a list of merges; see `Tokenizer.read`."""
        kinds = {"vocab_size": int, "pattern": str, "regex": str, "regex_version": str, "merges": list}
        exactly("bpe", table, kinds)
        if name_of(table["regex"]) != table["pattern"]:
            raise TokenizerError(
                f"bpe: the regex is not that of the pattern {brief(table['pattern'])}; "
                f"expected one of {', '.join(NAMED)} with its own, or 'own' with any other."
            )
        for index, pair in enumerate(table["merges"]):
            if type(pair) is not list or [type(one) for one in pair] != [int, int]:
                raise TokenizerError(f"bpe: merge {index}: expected a pair of ids, got {brief(pair)}.")
        if table["vocab_size"] != 256 + len(table["merges"]):
            raise TokenizerError(
                f"bpe: vocab_size={brief(table['vocab_size'])} does not fit {len(table['merges'])} merges; "
                f"expected {256 + len(table['merges'])}."
            )
        try:
            return BpeCodec(tuple((left, right) for left, right in table["merges"]), table["regex"])
        except ConfigError as error:
            raise TokenizerError(f"bpe: {error}") from None


@dataclass(frozen=True, eq=False)
class BpeCodec(Codec):
    """Merge number n, counted from 0, makes the id 256 + n."""

    part = "bpe"
    merges: tuple[Pair, ...] = field(repr=False)
    source: str  # the regex whose matches are the pieces that no merge leaves
    vocab_size: int = field(init=False)
    _splitter: Splitter = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "vocab_size", len(self._tokens))  # checks the merges
        object.__setattr__(self, "_splitter", Splitter(self.source))

    def encode(self, text: str) -> Ids:
        """The merged ids of each piece; see `Codec.encode`."""
        utf8(self.part, text)
        found = map(self._memory.__getitem__, self._splitter.pieces(text))
        return np.frombuffer(bytearray().join(found), np.int32)

    def decode_bytes(self, ids: Iterable[Any]) -> bytes:
        """The tokens' bytes, joined; see `Codec.decode_bytes`."""
        return b"".join(map(self._tokens.__getitem__, self.check_ids(ids).tolist()))

    def table(self) -> dict[str, Any]:
        """The merges as pairs of ids; the version of the regex module is a record, and binds nobody."""
        return {
            "vocab_size": self.vocab_size,
            "pattern": name_of(self.source),
            "regex": self.source,
            "regex_version": regex.__version__,
            "merges": [list(pair) for pair in self.merges],
        }

    @cached_property
    def _tokens(self) -> list[bytes]:
        return tokens_of(self.merges)

    @cached_property
    def _memory(self) -> Memory:
        return Memory(self.merges)
