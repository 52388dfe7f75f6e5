"""One token a byte: the ids are the UTF-8 bytes of the text, so any text has ids and nothing is learned.

Source: Xue et al. 2022, ByT5, https://arxiv.org/abs/2105.13626
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from reprlib import repr as brief
from typing import Any

import numpy as np

from nanotx.errors import TokenizerError
from nanotx.tokenizers.base import Codec, Ids, Tokenizer, utf8
from nanotx.tokenizers.special_tokens import join_bytes, tokens_by_id
from nanotx.tokenizers.storage import exactly


@Tokenizer.register("byte")
@dataclass(frozen=True, kw_only=True)
class Byte(Tokenizer):
    """The 256 bytes; needs no training."""

    splittable = True

    def known_vocab_size(self, characters: int | None = None) -> int | None:
        """Return 256."""
        return 256

    def train(self, texts: Iterable[str]) -> "ByteCodec":
        """Return the byte codec; the texts are not read."""
        return ByteCodec()

    @classmethod
    def from_dict(cls, table: dict[str, Any]) -> "ByteCodec":
        """Return the codec of bytes, whose table holds special tokens if there are any; see `Tokenizer.from_dict`."""
        exactly("byte", table, {"special_tokens": dict[str, int]} if table else {})
        return ByteCodec(special_tokens=table.get("special_tokens", {}))


@dataclass(frozen=True, eq=False)
class ByteCodec(Codec):
    """The id of a byte is its value; special tokens come after them."""

    part = "byte"
    splittable = True
    special_tokens: Mapping[str, int] = field(default_factory=dict)
    vocab_size: int = field(init=False, default=256, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "vocab_size", 256 + len(self.special_tokens))
        if sorted(self.special_tokens.values()) != list(range(256, self.vocab_size)):
            raise TokenizerError(
                f"byte: special_tokens: expected the ids from 256 on, got {brief(dict(self.special_tokens))}."
            )

    def encode_ordinary(self, text: str) -> Ids:
        """Return the bytes of the text; see `Codec.encode_ordinary`."""
        return np.frombuffer(utf8(self.part, text), np.uint8).astype(np.int32)

    def decode_bytes(self, ids: Iterable[Any]) -> bytes:
        """Return the ids as bytes; see `Codec.decode_bytes`."""
        places = self.check_ids(ids)
        if self.special_tokens and places.size and places.max() >= 256:
            return join_bytes(self.part, self._all, places.tolist())
        return places.astype(np.uint8).tobytes()

    def to_dict(self) -> dict[str, Any]:
        """Return the special tokens, if there are any: all else is the same in every byte codec."""
        return {"special_tokens": dict(self.special_tokens)} if self.special_tokens else {}

    @cached_property
    def _all(self) -> tuple[bytes | None, ...]:
        return tokens_by_id(self.part, [bytes([value]) for value in range(256)], (), self.special_tokens)
