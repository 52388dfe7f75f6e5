"""One token a character: the alphabet is the sorted characters of the training texts."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanotx.errors import TextError, TokenizerError
from nanotx.tokenizers import Codec, Ids, Tokenizer, exactly, utf8

CHUNK = 1 << 16  # characters looked up at once: few enough to stay in the processor's cache
UNKNOWN = -1


@Tokenizer.register("char")
@dataclass(frozen=True, kw_only=True)
class Char(Tokenizer):
    """Learns which characters there are; a text with any other cannot be encoded."""

    def learn(self, texts: Iterable[str]) -> "CharCodec":
        """The alphabet of the texts.

        Raises:
            TextError: a text holds a lone surrogate.
            TokenizerError: the texts are empty.
        """
        letters: set[str] = set()
        for text in texts:
            utf8("char", text)
            letters.update(text)
        return CharCodec("".join(sorted(letters)))

    @classmethod
    def read(cls, table: dict[str, Any]) -> "CharCodec":
        """The codec of an alphabet; see `Tokenizer.read`."""
        exactly("char", table, {"alphabet": str})
        alphabet = table["alphabet"]
        utf8("char", alphabet)
        for index, (one, another) in enumerate(pairwise(alphabet)):
            if one >= another:
                raise TokenizerError(
                    f"char: alphabet: expected each character once, in order of code point, "
                    f"got {one!r} before {another!r} at offset {index}."
                )
        return CharCodec(alphabet)


@dataclass(frozen=True, eq=False)
class CharCodec(Codec):
    """The id of a character is its place in the alphabet."""

    part = "char"
    alphabet: str
    vocab_size: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.alphabet:
            raise TokenizerError("char: an empty text has no alphabet; try a text with at least one character.")
        object.__setattr__(self, "vocab_size", len(self.alphabet))

    def encode(self, text: str) -> Ids:
        """The places of the characters; see `Codec.encode`."""
        ids = np.empty(len(text), np.int32)
        for at in range(0, len(text), CHUNK):
            chunk = text[at : at + CHUNK].encode("utf-32-le", errors="surrogatepass")
            points, found = np.frombuffer(chunk, np.uint32), ids[at : at + CHUNK]
            np.take(self._places, points, out=found, mode="clip")
            if found.min() == UNKNOWN:
                self._refuse(text, at + int(found.argmin()))
        return ids

    def decode_bytes(self, ids: Iterable[Any]) -> bytes:
        """The characters at these places, in UTF-8; see `Codec.decode_bytes`."""
        points: NDArray[np.uint32] = self._points[self.check_ids(ids)]
        return points.tobytes().decode("utf-32-le").encode("utf-8")

    def table(self) -> dict[str, Any]:
        """The alphabet, in order."""
        return {"alphabet": self.alphabet}

    @cached_property
    def _points(self) -> NDArray[np.uint32]:
        return np.frombuffer(self.alphabet.encode("utf-32-le"), np.uint32)

    @cached_property
    def _places(self) -> NDArray[np.int32]:
        """The id at each code point; the last entry stands for all beyond the alphabet's last."""
        places = np.full(int(self._points[-1]) + 2, UNKNOWN, np.int32)
        places[self._points] = np.arange(self.vocab_size)
        return places

    def _refuse(self, text: str, offset: int) -> None:
        utf8(self.part, text[: offset + 1])  # half a character has an error of its own
        one = text[offset]
        raise TextError(
            f"char: {one!r} (U+{ord(one):04X}) at offset {offset} is not in the alphabet of "
            f"{self.vocab_size}; try --tokenizer byte, which holds any text."
        )
