"""One token a byte: the ids are the UTF-8 bytes of the text, so any text has ids and nothing is learned.

Source: Xue et al. 2022, ByT5, https://arxiv.org/abs/2105.13626
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nanotx.tokenizers.base import Codec, Ids, Tokenizer, utf8
from nanotx.tokenizers.storage import exactly


@Tokenizer.register("byte")
@dataclass(frozen=True, kw_only=True)
class Byte(Tokenizer):
    """The 256 bytes; needs no training."""

    splittable = True

    def train(self, texts: Iterable[str]) -> "ByteCodec":
        """Return the byte codec; the texts are not read."""
        return ByteCodec()

    @classmethod
    def from_dict(cls, table: dict[str, Any]) -> "ByteCodec":
        """Return the one codec of bytes, whose table is empty; see `Tokenizer.from_dict`."""
        exactly("byte", table, {})
        return ByteCodec()


@dataclass(frozen=True, eq=False)
class ByteCodec(Codec):
    """The id of a byte is its value."""

    part = "byte"
    splittable = True
    vocab_size = 256

    def encode_ordinary(self, text: str) -> Ids:
        """Return the bytes of the text; see `Codec.encode_ordinary`."""
        return np.frombuffer(utf8(self.part, text), np.uint8).astype(np.int32)

    def decode_bytes(self, ids: Iterable[Any]) -> bytes:
        """Return the ids as bytes; see `Codec.decode_bytes`."""
        return self.check_ids(ids).astype(np.uint8).tobytes()

    def to_dict(self) -> dict[str, Any]:
        """Return an empty table: there is only one byte codec."""
        return {}
