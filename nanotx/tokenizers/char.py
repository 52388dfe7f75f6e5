"""One token per character: the alphabet is the sorted characters of the training texts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from reprlib import repr as brief
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanotx.errors import TextError, TokenizerError
from nanotx.tokenizers.base import REMEDY, UNKNOWN, Codec, Ids, Tokenizer, normalize_nfc, utf8
from nanotx.tokenizers.storage import exactly

CHUNK = 1 << 16  # characters looked up at once: few enough to stay in the processor's cache
NONE = -1


@Tokenizer.register("char")
@dataclass(frozen=True, kw_only=True)
class Char(Tokenizer):
    """The characters of the training text; any other cannot be encoded, except as `<unk>`."""

    splittable = True
    unknown: bool = False  # encode any other character as <unk>, which loses it
    nfc: bool = False  # normalise every text to Unicode's normal form C first

    def known_vocab_size(self, characters: int | None = None) -> int | None:
        """Return an id for each character of the text; normalization may leave fewer."""
        return None if characters is None or self.nfc else characters + self.unknown

    def train(self, texts: Iterable[str]) -> "CharCodec":
        """Return a codec with the alphabet of the texts.

        Raises:
            TextError: a text holds a lone surrogate.
            TokenizerError: the texts are empty.
        """
        characters: set[str] = set()
        for text in texts:
            utf8("char", text)
            characters.update(normalize_nfc(text) if self.nfc else text)
        special_tokens = {UNKNOWN: len(characters)} if self.unknown else {}
        return CharCodec("".join(sorted(characters)), special_tokens=special_tokens, nfc=self.nfc)

    @classmethod
    def from_dict(cls, table: dict[str, Any]) -> "CharCodec":
        """Return the codec of an alphabet; see `Tokenizer.from_dict`."""
        exactly("char", table, {"nfc": bool, "special_tokens": dict[str, int], "alphabet": str})
        alphabet = table["alphabet"]
        utf8("char", alphabet)
        for index, (character, following) in enumerate(pairwise(alphabet)):
            if character >= following:
                raise TokenizerError(
                    f"char: alphabet: expected each character once, in order of code point, "
                    f"got {character!r} before {following!r} at offset {index}."
                )
        return CharCodec(alphabet, special_tokens=table["special_tokens"], nfc=table["nfc"])


@dataclass(frozen=True, eq=False)
class CharCodec(Codec):
    """The id of a character is its place in the alphabet."""

    part = "char"
    splittable = True
    alphabet: str
    special_tokens: Mapping[str, int] = field(default_factory=dict)
    nfc: bool = False
    vocab_size: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.alphabet:
            raise TokenizerError("char: an empty text has no alphabet; try a text with at least one character.")
        size = len(self.alphabet) + len(self.special_tokens)
        if sorted(self.special_tokens.values()) != list(range(len(self.alphabet), size)):
            raise TokenizerError(
                f"char: special_tokens: expected the ids from {len(self.alphabet)} on, got "
                f"{brief(dict(self.special_tokens))}."
            )
        object.__setattr__(self, "vocab_size", size)

    def encode_ordinary(self, text: str) -> Ids:
        """Return the index of each character in the alphabet; see `Codec.encode_ordinary`."""
        ids = np.empty(len(text), np.int32)
        for at in range(0, len(text), CHUNK):
            chunk = text[at : at + CHUNK].encode("utf-32-le", errors="surrogatepass")
            points, row = np.frombuffer(chunk, np.uint32), ids[at : at + CHUNK]
            np.take(self._places, points, out=row, mode="clip")
            if row.min() == NONE:
                self._unknown(text, at, row)
        return ids

    def decode_bytes(self, ids: Iterable[Any]) -> bytes:
        """Return the characters with these ids, in UTF-8; see `Codec.decode_bytes`."""
        places = self.check_ids(ids)
        if self.special_tokens and places.size and places.max() >= len(self.alphabet):
            names = {token: name for name, token in self.special_tokens.items()}
            return "".join(names.get(token) or self.alphabet[token] for token in places.tolist()).encode("utf-8")
        points: NDArray[np.uint32] = self._points[places]
        return points.tobytes().decode("utf-32-le").encode("utf-8")

    def to_dict(self) -> dict[str, Any]:
        """Return the alphabet, in order."""
        return {"nfc": self.nfc, "special_tokens": dict(self.special_tokens), "alphabet": self.alphabet}

    @cached_property
    def _points(self) -> NDArray[np.uint32]:
        return np.frombuffer(self.alphabet.encode("utf-32-le"), np.uint32)

    @cached_property
    def _places(self) -> NDArray[np.int32]:
        """The id at each code point; the last entry stands for all beyond the alphabet's last."""
        places = np.full(int(self._points[-1]) + 2, NONE, np.int32)
        places[self._points] = np.arange(len(self.alphabet))
        return places

    def _unknown(self, text: str, at: int, row: NDArray[np.int32]) -> None:
        """Put `<unk>` where characters from offset `at` on were not found, or else refuse the first of them."""
        if UNKNOWN in self.special_tokens:
            utf8(self.part, text[at : at + len(row)], at)
            row[row == NONE] = self.special_tokens[UNKNOWN]
            return
        offset = at + int(row.argmin())
        utf8(self.part, text[offset], offset)  # a lone surrogate has an error of its own
        character = text[offset]
        raise TextError(
            f"char: {character!r} (U+{ord(character):04X}) at offset {offset} is not in the alphabet of "
            f"{len(self.alphabet)}; {REMEDY}."
        )
