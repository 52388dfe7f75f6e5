"""A codec is a learned tokenizer: a value that turns a text into ids and ids into a text."""

import copy
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from nanotx.errors import TextError
from nanotx.tokenizers._storage import Origin, digest, text_of, write_file
from nanotx.tokenizers._stored_ids import StoredIds

Ids = NDArray[np.integer[Any]]
Same = TypeVar("Same", bound="Codec")
UNKNOWN = "<unk>"
"""The name of what cannot be encoded, where a tokenizer is told to take it."""


INSTEAD = "try without it, or train with the tokenizer byte, which holds any text, or with the field unknown = true"
"""What to do about a character that a tokenizer lacks, whatever command or program the text was given to."""


def utf8(part: str, text: str, at: int = 0) -> bytes:
    """The UTF-8 bytes of a text, which begins at offset `at` of another; `part` is the tokenizer that asks.

    Raises:
        TextError: the text holds a lone surrogate, which is half a character and has no bytes; says where.
    """
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise TextError(
            f"{part}: lone surrogate U+{ord(text[error.start]):04X} at offset {at + error.start} is no character; "
            "try text.encode('utf-8', 'replace').decode('utf-8')."
        ) from None


def composed(text: str) -> str:
    """The text in Unicode's normal form C: letters and their accents put together where they can be."""
    return unicodedata.normalize("NFC", text)


class Codec(ABC):
    """The thing: a learned tokenizer, a value that does not change."""

    part: str
    """The name of the part that learned it."""
    vocab_size: int
    """How many ids there are: 0 to vocab_size - 1."""
    origin: Origin | None = None
    """Where it was learned, if that was recorded; two codecs may be equal and differ in this."""
    specials: Mapping[str, int] = MappingProxyType({})
    """Ids that no ordinary text becomes, by their names, such as `<|endoftext|>`."""
    nfc: bool = False
    """Whether a text is put into Unicode's normal form C before it is cut; ids then give that form back."""
    apart: bool = True
    """Whether each id stands for the same bytes whatever stands beside it, as in all that nanotx learns itself."""

    cuts: bool = False
    """Whether a text may be cut between an ASCII letter and a blank behind it, and each side encoded by itself."""

    _tokens: tuple[bytes | None, ...] = ()
    """The bytes of each id, where they are listed; None for an id that stands for nothing."""

    @cached_property
    def undefined_ids(self) -> tuple[int, ...]:
        """The ids below vocab_size that stand for nothing: decoding refuses them, and sampling never draws them.

        Only a vocabulary that came from elsewhere has such gaps: cl100k_base has 16.
        """
        return tuple(one for one, token in enumerate(self._tokens) if token is None)

    @abstractmethod
    def ordinary(self, text: str) -> Ids:
        """The ids of a text that is all ordinary, as a new array of int32; what `encode` is made of.

        Raises:
            TextError: the text holds something this tokenizer cannot; says what and at which offset.
        """

    def encode(self, text: str, allowed_special: Collection[str] = ()) -> Ids:
        """The ids of a text, as a new array of int32.

        Args:
            text: any; the name of a special id in it is ordinary text,
            allowed_special: but for these names, which become their ids.

        Raises:
            TextError: the text holds something this tokenizer cannot; says what and at which offset. Or an allowed
                name is not that of a special id.
        """
        text = composed(text) if self.nfc else text
        if not allowed_special:
            return self.ordinary(text)
        from nanotx.tokenizers._specials import encode_with  # most texts have none

        return encode_with(self, text, allowed_special)

    def encode_batch(self, texts: Sequence[str], processes: int = 0) -> list[Ids]:
        """The ids of several texts, in several processes where there is enough to do.

        Args:
            texts: any.
            processes: how many at most; 0: as many as there are processors.

        Raises:
            TextError: a text holds something this tokenizer cannot.
        """
        from nanotx.tokenizers._crew import encode_batch  # one text needs no crew

        return encode_batch(self, texts, processes)

    def encode_to_file(self, files: Sequence[Path], out: Path, **how: Any) -> int:
        """Encode text files of any size into one token file; gives how many ids it has. See `_token_file.py`."""
        from nanotx.tokenizers._token_file import encode_to_file

        return encode_to_file(self, files, out, **how)

    def open_tokens(self, path: Path) -> StoredIds:
        """The ids of a token file that this tokenizer made; they stay in the file, and are read when asked for.

        Raises:
            DataError: there is none, it is not whole, or an id in it is beyond the vocabulary or stands for nothing.
            TokenizerError: another tokenizer made it.
        """
        from nanotx.tokenizers._token_file import open_tokens

        return open_tokens(path, self).ids

    def keeps(self, text: str) -> bool:
        """Whether the text's ids give the text back: without `<unk>`, and in the form it had."""
        return self.decode_bytes(self.encode(text)) == utf8(self.part, text)

    @abstractmethod
    def decode_bytes(self, ids: Iterable[Any]) -> bytes:
        """The exact UTF-8 bytes that the ids stand for, even where they break a character.

        Raises:
            TextError: an id is out of range, or no whole number.
        """

    @abstractmethod
    def table(self) -> dict[str, Any]:
        """What `Tokenizer.read` needs, as plain values for JSON."""

    def unsettled(self, one: int) -> bool:
        """Whether what an id stands for may hang on the id that follows, so that a stream waits for it."""
        return False

    def decode(self, ids: Iterable[Any]) -> str:
        """The text of the ids; bytes that are no UTF-8 become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    @property
    def digest(self) -> str:
        """SHA-256 of what it is: equal for two codecs that are equal, wherever and by whom they were learned."""
        return digest(self.part, self.table())

    @property
    def start(self) -> int:
        """The id that stands before the first token of a text: the newline's, or 0 where there is none."""
        try:
            ids = self.encode("\n")
        except TextError:
            return 0
        return int(ids[0]) if len(ids) == 1 else 0

    def with_origin(self: Same, origin: Origin) -> Same:
        """A copy that remembers where it was learned, and takes that along when it is saved."""
        twin = copy.copy(self)
        object.__setattr__(twin, "origin", origin)
        return twin

    def save(self, path: str | Path) -> None:
        """Write one JSON file, by rename, so that no reader ever sees half of it.

        Raises:
            TokenizerError: it cannot be written there.
        """
        write_file(Path(path), self.to_json())

    def to_json(self) -> str:
        """The text of the file that `save` writes."""
        return text_of(self.part, self.table(), self.origin)

    def check_ids(self, ids: Iterable[Any]) -> Ids:
        """The ids as an array, each of them in range.

        Raises:
            TextError: one of them is not; says which.
        """
        wanted = f"expected a whole number from 0 to {self.vocab_size - 1}"
        try:  # what numpy can take as a whole (an array, a tensor) is not taken one by one
            given = ids if hasattr(ids, "__array__") else list(ids)
            array = np.asarray(given).reshape(-1)
        except (TypeError, ValueError) as error:
            raise TextError(f"{self.part}: these ids are no row of numbers ({error}); {wanted} each.") from None
        if not array.size:
            return array.astype(np.int64)
        if array.dtype.kind in "iu" and array.min() >= 0 and array.max() < self.vocab_size:
            return array
        if array.dtype.kind not in "iu":  # numpy may have rounded what was given
            array = np.asarray(given, dtype=object).reshape(-1)
        for index, one in enumerate(array.tolist()):
            if not isinstance(one, int | np.integer) or isinstance(one, bool) or not 0 <= one < self.vocab_size:
                raise TextError(f"{self.part}: id {one!r} at index {index} is out of range; {wanted}.")
        return array.astype(np.int64)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Codec) and type(other) is type(self) and other.table() == self.table()

    def __hash__(self) -> int:
        return hash((self.part, self.vocab_size))
