"""Byte-level byte-pair encoding: the ids are the 256 bytes, then pairs of earlier ids, in the order learned.

A text is cut into pieces by a pattern, each piece into its bytes, and the bytes are merged, the earliest
learned pair first. Any text has ids, and they give it back exactly.

Source: Sennrich et al. 2016, https://arxiv.org/abs/1508.07909; over bytes, Radford et al. 2019 (GPT-2).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from reprlib import repr as brief
from typing import Any

import numpy as np

from nanotx.errors import ConfigError, TokenizerError
from nanotx.hardware.cpu import cores
from nanotx.tokenizers.base import Codec, Ids, Tokenizer, utf8
from nanotx.tokenizers.bpe.compiled import TEXT, CompiledEncoder, Loops, loops
from nanotx.tokenizers.bpe.encoding import Pair, PieceCache, of_parts, of_pieces, tokens_of
from nanotx.tokenizers.bpe.splitting import Splitter
from nanotx.tokenizers.bpe.training import count_pieces, learn_merges
from nanotx.tokenizers.byte_level import ByteLevelBpe
from nanotx.tokenizers.regexes import NAMED, name_of, source_of
from nanotx.tokenizers.special_tokens import assign_ids, join_bytes, never_split, tokens_by_id, training_segments
from nanotx.tokenizers.storage import exactly

ALONE = 1 << 27  # characters that compiled loops encode while other processes begin to
SHORT = 1 << 12  # bytes of a text that the interpreter encodes sooner than it would ask the compiled loops


@Tokenizer.register("bpe")
@dataclass(frozen=True, kw_only=True)
class Bpe(ByteLevelBpe):
    """Byte-level BPE: the 256 bytes and the most frequent merges; ties go to the smallest pair of ids."""

    @property
    def splittable(self) -> bool:  # type: ignore[override]
        """Whether the pattern is a named one and no special token could be split; see `Tokenizer.splittable`."""
        return self.pattern in NAMED and never_split(self.special_tokens)

    def train(self, texts: Iterable[str]) -> "BpeCodec":
        """Return a codec with merges of the most frequent pairs; of the texts, only the counts of pieces are kept.

        Raises:
            TextError: a text holds a lone surrogate.
            TokenizerError: the texts have too few pairs for this vocab_size, or the pattern leaves some of them out.
        """
        source = source_of(self.pattern)
        pieces = count_pieces(training_segments(texts, self.special_tokens, self.nfc), Splitter(source, whole=True))
        wanted = self.vocab_size - 256 - len(self.special_tokens)
        merges = learn_merges(pieces, wanted, self.min_frequency)
        if len(merges) < wanted:
            possible = 256 + len(merges) + len(self.special_tokens)
            often = "" if self.min_frequency == 1 else f" of min_frequency={self.min_frequency}"
            raise TokenizerError(
                f"bpe: vocab_size={self.vocab_size} cannot be reached: these texts allow {possible}{often}; "
                f"try --tokenizer.vocab-size {possible}, or more text."
            )
        special_tokens = assign_ids(256 + wanted, self.special_tokens)
        return BpeCodec(tuple(merges), source, special_tokens=special_tokens, nfc=self.nfc)

    @classmethod
    def from_dict(cls, table: dict[str, Any]) -> "BpeCodec":
        """Return the codec of a list of merges; see `Tokenizer.from_dict`."""
        kinds = {"vocab_size": int, "pattern": str, "regex": str}
        exactly("bpe", table, kinds | {"nfc": bool, "special_tokens": dict[str, int], "ids": list[int], "merges": list})
        if name_of(table["regex"]) != table["pattern"]:
            raise TokenizerError(
                f"bpe: the regex is not that of the pattern {brief(table['pattern'])}; "
                f"expected one of {', '.join(NAMED)} with its own, or 'own' with any other."
            )
        try:
            codec = BpeCodec(
                pairs_of(table["merges"]),
                table["regex"],
                special_tokens=table["special_tokens"],
                nfc=table["nfc"],
                ids=tuple(table["ids"]),
            )
        except ConfigError as error:
            raise TokenizerError(f"bpe: {error}") from None
        if table["vocab_size"] != codec.vocab_size:
            raise TokenizerError(
                f"bpe: vocab_size={brief(table['vocab_size'])} does not fit {len(table['merges'])} merges and "
                f"{len(codec.special_tokens)} special tokens; expected {codec.vocab_size}."
            )
        return codec


def pairs_of(merges: list[Any]) -> tuple[Pair, ...]:
    """Return the merges of a file as pairs of ids.

    Raises:
        TokenizerError: one of them is none.
    """
    are_pairs = {*map(type, merges)} <= {list} and {*map(len, merges)} <= {2}
    if not (are_pairs and {*map(type, chain.from_iterable(merges))} <= {int}):
        faults = (n for n, pair in enumerate(merges) if type(pair) is not list or [*map(type, pair)] != [int, int])
        index = next(faults)
        raise TokenizerError(f"bpe: merge {index}: expected a pair of ids, got {brief(merges[index])}.")
    return tuple(map(tuple, merges))


@dataclass(frozen=True, eq=False)
class BpeCodec(Codec):
    """A trained BPE tokenizer: its tokens are the 256 bytes, then one per merge; token n has the id n, or ids[n].

    A merge is a pair of token numbers. Only an imported tokenizer has `ids`.

    Raises:
        TokenizerError: a merge, an id or a special that cannot be.
        ConfigError: the regex is invalid.
    """

    part = "bpe"
    merges: tuple[Pair, ...] = field(repr=False)
    source: str  # the regex whose matches are the pieces that no merge leaves
    special_tokens: Mapping[str, int] = field(default_factory=dict)
    nfc: bool = False
    ids: tuple[int, ...] = field(default=(), repr=False)
    vocab_size: int = field(init=False)
    _tokens: tuple[bytes | None, ...] = field(init=False, repr=False)  # by id
    _splitter: Splitter = field(init=False, repr=False)

    def __post_init__(self) -> None:
        tokens = tokens_by_id(self.part, tokens_of(self.merges), self.ids, self.special_tokens)
        object.__setattr__(self, "vocab_size", len(tokens))
        object.__setattr__(self, "_tokens", tokens)
        object.__setattr__(self, "_splitter", Splitter(self.source))

    def encode_ordinary(self, text: str) -> Ids:
        """Return the merged ids of each piece; see `Codec.encode_ordinary`."""
        data = utf8(self.part, text)
        memory = self._memory
        memory.seen += len(data)
        if self.splittable and len(data) >= SHORT and (fast := loops(memory.seen >= TEXT)):
            return self._engine(fast).encode(text, data)
        encoded = map(memory.__getitem__, self._splitter.parts(text))
        return np.frombuffer(bytearray().join(encoded), np.int32)

    def decode_bytes(self, ids: Iterable[Any]) -> bytes:
        """Return the joined bytes of the tokens; see `Codec.decode_bytes`."""
        return join_bytes(self.part, self._tokens, self.check_ids(ids).tolist())

    def to_dict(self) -> dict[str, Any]:
        """Return the merges as pairs of tokens."""
        return {
            "vocab_size": self.vocab_size,
            "pattern": name_of(self.source),
            "regex": self.source,
            "nfc": self.nfc,
            "special_tokens": dict(self.special_tokens),
            "ids": list(self.ids),
            "merges": list(map(list, self.merges)),
        }

    @property
    def splittable(self) -> bool:  # type: ignore[override]
        """Whether the pattern is a named one, whose pieces end there; see `Codec.splittable`."""
        return self._splitter.name != "own"

    def __getstate__(self) -> dict[str, Any]:
        passing = {"_memory", "_engines"}  # what is remembered stays here
        return {name: value for name, value in vars(self).items() if name not in passing}

    def encode_batch(self, texts: Sequence[str], processes: int = 0) -> list[Ids]:
        """As `Codec.encode_batch`; by compiled loops, another process is worth its start for very long texts alone."""
        size = sum(map(len, texts))
        if self.splittable and loops(size >= TEXT):
            processes = min(processes or cores(), size // ALONE + 1)
        return super().encode_batch(texts, processes)

    def _engine(self, fast: Loops) -> CompiledEncoder:
        if "_engines" not in vars(self):
            vars(self).pop("_memory", None)  # short texts begin another
            object.__setattr__(self, "_engines", CompiledEncoder(fast, self._splitter, self.merges, self.ids))
        engine: CompiledEncoder = vars(self)["_engines"]
        return engine

    @cached_property
    def _memory(self) -> PieceCache:
        pieces = of_pieces(self.merges, self.ids)
        return of_parts(self._splitter, pieces) if self.splittable else pieces  # otherwise a part is a piece
