"""The tokenizer slot, and `Codec`: a trained tokenizer, an immutable value that encodes and decodes.

The config (`Bpe(vocab_size=512)`) is part of the recipe; `config.train(texts)` returns a `Codec`, which encodes,
decodes, and is saved as one JSON file. `load` reads the file of any tokenizer.
"""

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

from nanotx.config.plugin_errors import PartCheck, describe_value, name_part_in_errors
from nanotx.config.presets import presets
from nanotx.config.registry import Slot, is_foreign
from nanotx.config.schema import fields
from nanotx.data.stored_ids import StoredIds
from nanotx.errors import TextError
from nanotx.tokenizers.storage import Origin, digest, text_of, write_file

Ids = NDArray[np.integer[Any]]
Same = TypeVar("Same", bound="Codec")
LONGEST_TEMPLATE = 1 << 16
"""Characters of a chat template that is read."""
CHAT_TEMPLATE = "chat_template"
"""The key of the chat template in a tokenizer's file."""
UNKNOWN = "<unk>"
"""The name of the unknown token, of tokenizers with the field `unknown`."""


REMEDY = (
    "try without it, or train with the tokenizer bpe or byte, which hold any text, or with the field unknown = true"
)
"""The remedy that errors give for a character outside the vocabulary."""


def utf8(part: str, text: str, at: int = 0) -> bytes:
    """Return the UTF-8 bytes of a text.

    Raises:
        TextError: the text holds a lone surrogate, which has no UTF-8 bytes; the offset counts from `at`.
    """
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise TextError(
            f"{part}: lone surrogate U+{ord(text[error.start]):04X} at offset {at + error.start} is not a character; "
            "try text.encode('utf-8', 'replace').decode('utf-8')."
        ) from None


def normalize_nfc(text: str) -> str:
    """Return the text in Unicode normalization form C (NFC)."""
    return unicodedata.normalize("NFC", text)


class Codec(ABC):
    """A trained tokenizer, an immutable value."""

    part: str
    """The name of the part that trained it."""
    vocab_size: int
    """The number of ids, which are 0 to vocab_size - 1."""
    origin: Origin | None = None
    """A record of how it was trained, or None; it takes no part in equality."""
    chat_template: str = ""
    """How conversations become one text, in Jinja; see `chat_template.py`. Empty for a tokenizer without chats."""
    special_tokens: Mapping[str, int] = MappingProxyType({})
    """Special tokens: names such as `<|endoftext|>` and their ids, which ordinary text never encodes to."""
    nfc: bool = False
    """Normalize text to NFC before encoding; decoding then returns that form."""
    decodes_independently: bool = True
    """Each id decodes to the same bytes in any sequence; true for every tokenizer that nanotx trains."""

    splittable: bool = False
    """A text may be split between an ASCII letter and the whitespace after it, and the sides encoded separately."""

    _tokens: tuple[bytes | None, ...] = ()
    """The bytes of each id, if the tokenizer lists them; None for an undefined id."""

    @cached_property
    def undefined_ids(self) -> tuple[int, ...]:
        """Return the undefined ids below vocab_size: decoding refuses them, and sampling never draws them.

        Only imported vocabularies have such gaps: cl100k_base has 16.
        """
        return tuple(token_id for token_id, token in enumerate(self._tokens) if token is None)

    @abstractmethod
    def encode_ordinary(self, text: str) -> Ids:
        """Encode a text without special tokens; return a new array of int32.

        Raises:
            TextError: the text contains something that this tokenizer cannot encode; says what and at which offset.
        """

    def encode(self, text: str, allowed_special: Collection[str] = ()) -> Ids:
        """Encode a text; return a new array of int32.

        Args:
            text: any text; names of special tokens in it are ordinary text.
            allowed_special: names that become their ids instead.

        Raises:
            TextError: the text contains something that this tokenizer cannot encode; says what and at which
                offset. Or an allowed name is not that of a special id.
        """
        text = normalize_nfc(text) if self.nfc else text
        if not allowed_special:
            return self.encode_ordinary(text)
        from nanotx.tokenizers.special_tokens import encode_with_special_tokens  # most texts have none

        return encode_with_special_tokens(self, text, allowed_special)

    def encode_batch(self, texts: Sequence[str], processes: int = 0) -> list[Ids]:
        """Encode several texts, in several processes if there is enough work.

        Args:
            texts: any texts.
            processes: the maximal number of processes; 0 for one per CPU.

        Raises:
            TextError: a text contains something that this tokenizer cannot encode.
        """
        from nanotx.tokenizers.workers import encode_batch  # a single text needs no workers

        return encode_batch(self, texts, processes)

    def encode_to_file(self, files: Sequence[Path], out: Path, **how: Any) -> int:
        """Encode text files of any size into one token file; return its number of ids. See `encode_files.py`."""
        from nanotx.tokenizers.encode_files import encode_to_file

        return encode_to_file(self, files, out, **how)

    def open_tokens(self, path: Path) -> StoredIds:
        """Open a token file that this tokenizer made; the ids are read from the file on access.

        Raises:
            DataError: the file is missing, incomplete or changed, or an id is out of range.
            TokenizerError: another tokenizer made it.
        """
        from nanotx.tokenizers.token_file import open_tokens

        return open_tokens(path, self).ids

    def round_trips(self, text: str) -> bool:
        """Return whether decoding the ids of a text returns exactly that text."""
        return self.decode_bytes(self.encode(text)) == utf8(self.part, text)

    @abstractmethod
    def decode_bytes(self, ids: Iterable[Any]) -> bytes:
        """Decode ids to their exact UTF-8 bytes, even if they split a character.

        Raises:
            TextError: an id is out of range, or not an integer.
        """

    def count_bytes(self, ids: Iterable[Any]) -> int:
        """Return the number of bytes that `decode_bytes` returns.

        Raises:
            TextError: see `decode_bytes`.
        """
        checked = self.check_ids(ids)
        if self._tokens and self.decodes_independently:
            sizes = self._sizes[checked]
            if sizes.min(initial=0) >= 0:
                return int(sizes.sum())
        return len(self.decode_bytes(checked))

    @cached_property
    def _sizes(self) -> NDArray[np.int64]:
        """Return the number of bytes of each id; -1 for an undefined one."""
        return np.array([-1 if token is None else len(token) for token in self._tokens], np.int64)

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return the codec as plain values for JSON, which `Tokenizer.from_dict` reads."""

    def needs_lookahead(self, token_id: int) -> bool:
        """Return whether the text of an id may depend on the next id, so that a stream must wait for it."""
        return False

    def decode(self, ids: Iterable[Any]) -> str:
        """Decode ids to text; invalid UTF-8 becomes U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    @cached_property
    def digest(self) -> str:
        """Return the SHA-256 of the codec; equal codecs have equal digests."""
        return digest(self.part, self.saved_table())

    def saved_table(self) -> dict[str, Any]:
        """Return all that identifies the codec: its own table, and a chat template if it holds one."""
        return self.to_dict() | ({CHAT_TEMPLATE: self.chat_template} if self.chat_template else {})

    @property
    def start(self) -> int:
        """Return the id that precedes the first token of a text: that of the newline, or 0 without one."""
        try:
            ids = self.encode("\n")
        except TextError:
            return 0
        return int(ids[0]) if len(ids) == 1 else 0

    def with_origin(self: Same, origin: Origin) -> Same:
        """Return a copy with a record of its training, which `save` writes."""
        twin = copy.copy(self)
        object.__setattr__(twin, "origin", origin)
        return twin

    def with_chat_template(self: Same, source: str) -> Same:
        """Return a copy that holds a chat template, which `save` writes."""
        twin = copy.copy(self)
        object.__setattr__(twin, "chat_template", source)
        vars(twin).pop("digest", None)  # the template is part of it
        return twin

    def with_special_tokens(self, names: Sequence[str]) -> "Codec":
        """Return a codec that has these special tokens too: new ids, after all others.

        Raises:
            TokenizerError: its part has none; says which it has.
        """
        missing = [name for name in names if name not in self.special_tokens]
        if not missing:
            return self
        from nanotx.tokenizers.special_tokens import add_special_tokens  # few tokenizers are changed

        return add_special_tokens(self, missing)

    def save(self, path: str | Path) -> None:
        """Write one JSON file atomically.

        Raises:
            TokenizerError: it cannot be written there.
        """
        write_file(Path(path), self.to_json())

    def to_json(self) -> str:
        """Return the text of the file that `save` writes."""
        return text_of(self.part, self.saved_table(), self.origin)

    def check_ids(self, ids: Iterable[Any]) -> Ids:
        """Return the ids as an array, after checking that each is in range.

        Raises:
            TextError: one of them is not; says which.
        """
        wanted = f"expected a whole number from 0 to {self.vocab_size - 1}"
        try:  # an array or a tensor is converted as a whole
            given = ids if hasattr(ids, "__array__") else list(ids)
            array = np.asarray(given).reshape(-1)
        except (TypeError, ValueError) as error:
            raise TextError(f"{self.part}: the ids are not a sequence of numbers ({error}); {wanted} each.") from None
        if not array.size:
            return array.astype(np.int64)
        if array.dtype.kind in "iu" and array.min() >= 0 and array.max() < self.vocab_size:
            return array
        if array.dtype.kind not in "iu":  # numpy may have rounded
            array = np.asarray(given, dtype=object).reshape(-1)
        for index, token_id in enumerate(array.tolist()):
            if (
                not isinstance(token_id, int | np.integer)
                or isinstance(token_id, bool)
                or not 0 <= token_id < self.vocab_size
            ):
                raise TextError(f"{self.part}: id {token_id!r} at index {index} is out of range; {wanted}.")
        return array.astype(np.int64)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Codec) and type(other) is type(self) and other.saved_table() == self.saved_table()

    def __hash__(self) -> int:
        return hash((self.part, self.vocab_size))


class Tokenizer(
    Slot,
    ABC,
    slot="tokenizer",
    package="nanotx.tokenizers",
    shared=(
        "base",
        "byte_level",
        "chat_template",
        "convert",
        "encode_files",
        "hard_texts",
        "libraries",
        "loading",
        "regexes",
        "scripts",
        "special_tokens",
        "storage",
        "streaming",
        "template_process",
        "template_sandbox",
        "token_corpus",
        "token_file",
        "words",
        "workers",
    ),
):
    """The tokenizer slot. A part is a frozen dataclass whose `train` returns a `Codec`."""

    splittable = False  # training gives the same result on blocks that end between a letter and whitespace

    @abstractmethod
    def train(self, texts: Iterable[str]) -> Codec:
        """Train on the training texts alone, deterministically.

        Raises:
            TokenizerError: the texts are too small or too large for the config.
        """

    def known_vocab_size(self, characters: int | None = None) -> int | None:
        """Return the size of the vocabulary if it is known without a text, a file or a library; None if it is not.

        Args:
            characters: the number of distinct characters of the training text, if that is known.
        """
        return int(self.__dict__["vocab_size"]) if "vocab_size" in fields(type(self)) else None

    def train_checked(self, texts: Iterable[str], sample: str = "") -> Codec:
        """Train; check the codec of a plug-in part on a sample of text.

        Raises:
            TokenizerError: the texts are too small or too large for the config.
            ConfigError: a plug-in part raises, or does not return a codec; says which and where.
        """
        if not is_foreign(type(self)):
            return self.train(texts)

        return train_checked(self, texts, sample)

    @classmethod
    @abstractmethod
    def from_dict(cls, table: dict[str, Any]) -> Codec:
        """Return the codec of a table that `Codec.to_dict` returned; the table comes from an untrusted file.

        Raises:
            TokenizerError: the table is not one this part wrote.
        """

    @classmethod
    def table(cls, name: object) -> dict[str, Any]:
        """Return the config table of a part's name; or of a preset or path, whose part its file decides."""
        from nanotx.tokenizers.loading import config_table  # a recipe in Python needs no names

        return config_table(name)


def preset_names() -> list[str]:
    """Return the names of the preset tokenizers, sorted."""
    return sorted(path.stem for path in presets("tokenizers").glob("*.json"))


def load(path: str | Path, lossy: bool = True) -> Codec:
    """Read a tokenizer: a preset by name, a file that `Codec.save` wrote, or a file of another library.

    Args:
        path: the name or the path.
        lossy: allow a file of another library to lose text, as one that lowers case does.

    Raises:
        TokenizerError: there is no such file, nanotx did not write it, or it loses text and `lossy` is False.
    """
    from nanotx.tokenizers.loading import load_codec  # training a tokenizer opens no file

    return load_codec(path, lossy)


def train_checked(tokenizer: Tokenizer, texts: Iterable[str], sample: str = "") -> Codec:
    """Train a plug-in tokenizer and try its codec on a sample; see `Tokenizer.train_checked`."""
    check = PartCheck(tokenizer, "tokenizer")
    with name_part_in_errors(type(tokenizer)):
        codec = tokenizer.train(texts)
        check_codec(check, codec, "train", sample)
    return codec


def from_dict_checked(part: type[Any], table: dict[str, Any]) -> Codec:
    """Return the codec that a plug-in tokenizer reads from a table, tried on an empty text; see `Tokenizer.from_dict`.

    Raises:
        ConfigError: it raises, or does not return a usable codec; says which and where.
    """
    with name_part_in_errors(part):
        codec: Codec = part.from_dict(table)
        check_codec(PartCheck(part, "tokenizer"), codec, "from_dict", "")
    return codec


def check_codec(check: PartCheck, codec: Any, method: str, sample: str) -> None:
    """Raise ConfigError unless a method of a plug-in tokenizer returned a usable codec."""
    check.expect(isinstance(codec, Codec), f"{method} returned {describe_value(codec)}", "a Codec")
    size = codec.vocab_size
    ok = isinstance(size, int) and size > 0
    check.expect(ok, f"its codec has vocab_size={size!r}", "a whole number of at least 1")
    _ = codec.digest  # its table becomes JSON, without NaN or infinity
    ids = codec.encode_ordinary(normalize_nfc(sample) if codec.nfc else sample)
    ok = isinstance(ids, np.ndarray) and ids.ndim == 1 and np.issubdtype(ids.dtype, np.integer)
    check.expect(ok, f"encode_ordinary returned {describe_value(ids)}", "a one-dimensional array of integers")
    low, high = (int(ids.min()), int(ids.max())) if len(ids) else (0, 0)
    check.expect(
        low >= 0 and high < size, f"encode_ordinary returned ids from {low} to {high}", f"ids from 0 to {size - 1}"
    )
    back = codec.decode_bytes(ids)
    check.expect(isinstance(back, bytes), f"decode_bytes returned {describe_value(back)}", "bytes")
