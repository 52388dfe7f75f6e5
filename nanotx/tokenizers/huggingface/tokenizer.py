"""Any tokenizer of the library `tokenizers` (Hugging Face): its `tokenizer.json`, or one trained here.

With a path, nothing is learned: what a run stores is the file's content whole. Without one, the library learns a
byte-level BPE, of which every text has ids. Ordinary text never becomes a special id, and what a file says about
dropout, cutting texts off, filling them up, blanks beside an added token or special ids around a text is not done. A
file whose steps lose text is refused by the step's name, unless `lossy` takes it.

Source: https://github.com/huggingface/tokenizers
"""

import json
import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from nanotx.errors import ConfigError, TextError, TokenizerError
from nanotx.files import open_regular
from nanotx.tokenizers.base import Codec, Ids, Tokenizer, utf8
from nanotx.tokenizers.byte_level import ByteLevelBpe, from_printable
from nanotx.tokenizers.huggingface.file_checks import check_regexes, check_sound, kinds_of, losses, parts_of, settled
from nanotx.tokenizers.libraries import library_errors, not_installed
from nanotx.tokenizers.loading import LARGEST
from nanotx.tokenizers.regexes import source_of
from nanotx.tokenizers.special_tokens import join_bytes, tokens_by_id, training_segments
from nanotx.tokenizers.storage import exactly

BYTE = re.compile(r"<0x[+\dA-Fa-f][\dA-Fa-f]>", re.ASCII)
"""How a byte is written that stands for a part of a character; the library takes a plus for a digit."""


@Tokenizer.register("huggingface")
@dataclass(frozen=True, kw_only=True)
class Huggingface(ByteLevelBpe):
    """A `tokenizer.json`, or a byte-level BPE that the library trains, as large as the texts allow."""

    path: str = ""  # tokenizer.json to read; the other fields except lossy are then ignored
    lossy: bool = False  # accept a tokenizer.json that loses text, for example one that lowers case

    def known_vocab_size(self, characters: int | None = None) -> int | None:
        """Return the size that the library is asked for, which few texts are too short for; None for a file."""
        return None if self.path else self.vocab_size

    def train(self, texts: Iterable[str]) -> "HuggingfaceCodec":
        """Return the file's tokenizer, for which the texts are not read; or what the library learns from them.

        Raises:
            TextError: a text holds a lone surrogate.
            TokenizerError: the file is missing or no tokenizer.json, it loses text without `lossy`, or the library is
                not installed.
        """
        if self.path:
            described = settled(read_json(Path(self.path)))
            try:
                codec = HuggingfaceCodec(described)
            except (TokenizerError, ConfigError) as error:
                raise TokenizerError(f"{self.path}: {error}") from None
            if not self.lossy and (lost := codec.losses):
                raise TokenizerError(
                    f"{self.path}: {lost[0]}: this loses text, which its ids do not give back; expected a tokenizer "
                    "that keeps every text. --tokenizer.lossy takes it all the same, without bits per byte."
                )
            return codec
        source = source_of(self.pattern)
        return HuggingfaceCodec(
            learn_bpe(texts, source, self.vocab_size, self.min_frequency, self.special_tokens, self.nfc)
        )

    @classmethod
    def from_dict(cls, table: dict[str, Any]) -> "HuggingfaceCodec":
        """Return the codec of a whole tokenizer.json; see `Tokenizer.from_dict`."""
        exactly("huggingface", table, {"tokenizer": dict})
        return HuggingfaceCodec(table["tokenizer"])


@dataclass(frozen=True, eq=False)
class HuggingfaceCodec(Codec):
    """What a tokenizer.json describes.

    Raises:
        TokenizerError: the library cannot read it, or is not installed.
    """

    part = "huggingface"
    described: Mapping[str, Any] = field(repr=False)
    special_tokens: Mapping[str, int] = field(init=False)
    nfc: bool = field(init=False)
    vocab_size: int = field(init=False)
    decodes_independently: bool = field(init=False)  # whether the decoder is byte-level
    _tokens: tuple[bytes | None, ...] = field(init=False, repr=False)  # by id; exact where it is

    def __post_init__(self) -> None:
        library = self._library
        added = {
            token.content: (token_id, token.special) for token_id, token in library.get_added_tokens_decoder().items()
        }
        special_tokens = {name: token_id for name, (token_id, special) in added.items() if special}
        ordinary = [(name.encode("utf-8"), token_id) for name, (token_id, special) in added.items() if not special]
        words = library.get_vocab(with_added_tokens=False).items()
        ordinary += [(from_printable(word), token_id) for word, token_id in words if word not in added]
        tokens = tokens_by_id(
            self.part, [token for token, _ in ordinary], [token_id for _, token_id in ordinary], special_tokens
        )
        object.__setattr__(self, "special_tokens", dict(sorted(special_tokens.items(), key=lambda item: item[1])))
        object.__setattr__(self, "nfc", kinds_of(self.described, "normalizer", "normalizers") == ["NFC"])
        object.__setattr__(self, "vocab_size", len(tokens))
        object.__setattr__(
            self, "decodes_independently", kinds_of(self.described, "decoder", "decoders") == ["ByteLevel"]
        )
        object.__setattr__(self, "_tokens", tokens)

    def encode_ordinary(self, text: str) -> Ids:
        """Return the library's ids; see `Codec.encode_ordinary`."""
        utf8(self.part, text)
        try:
            return self._encoded(text)
        except TextError as error:
            sizes = range(len(text) + 1)
            at = bisect_left(sizes, True, key=lambda size: self._refuses(text[:size])) - 1
            raise TextError(
                f"huggingface: {text[at]!r} (U+{ord(text[at]):04X}) at offset {at}: up to there the library takes this "
                f"text. {error} Try without it, or train with a tokenizer.json that has an unknown "
                "token, or with the tokenizer byte, which holds any text."
            ) from None

    def decode_bytes(self, ids: Iterable[Any]) -> bytes:
        """Return the tokens' bytes, joined, where the decoder is byte-level; else the library's text, in UTF-8."""
        numbers: list[int] = self.check_ids(ids).tolist()
        exact = join_bytes(self.part, self._tokens, numbers)  # an id that stands for nothing is refused
        if self.decodes_independently or not numbers:  # a decoder may panic where there is nothing
            return exact
        with library_errors("huggingface: the library cannot decode these ids", TextError):
            return str(self._library.decode(numbers, skip_special_tokens=False)).encode("utf-8")

    @property
    def losses(self) -> list[str]:
        """The steps that lose text, whatever the text; training takes them only if `Huggingface.lossy` is set."""
        return losses(self.described)

    def needs_lookahead(self, token_id: int) -> bool:
        """Return whether it is a byte that a ByteFallback decodes with those beside it; see `Codec.needs_lookahead`."""
        return token_id in self._bytes

    def to_dict(self) -> dict[str, Any]:
        """Return the tokenizer.json, whole."""
        return {"tokenizer": dict(self.described)}

    def _encoded(self, text: str) -> Ids:
        with library_errors("The library", TextError):
            return np.array(self._library.encode(text, add_special_tokens=False).ids, np.int32)

    def _refuses(self, text: str) -> bool:
        try:
            self._encoded(text)
        except TextError:
            return True
        return False

    @cached_property
    def _bytes(self) -> frozenset[int]:
        if "ByteFallback" not in (part.get("type") for part in parts_of(self.described.get("decoder"), "decoders")):
            return frozenset()
        words = self._library.get_vocab(with_added_tokens=True).items()
        return frozenset(token_id for word, token_id in words if BYTE.fullmatch(word))

    @cached_property
    def _library(self) -> Any:
        try:
            from tokenizers import Tokenizer as Library
        except ImportError:
            raise not_installed("tokenizers") from None
        check_sound(self.described)
        check_regexes(self.described)
        with library_errors("huggingface: the library cannot read this tokenizer"):
            library = Library.from_str(json.dumps(settled(self.described)))
            library.encode_special_tokens = True
        return library


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file that anyone may have written.

    Raises:
        TokenizerError: it cannot be read, or is none.
    """
    try:
        with open_regular(path) as file:
            data = file.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise TokenizerError(f"{path}: larger than {LARGEST} bytes; no tokenizer that nanotx keeps is.")
        content = json.loads(data.decode("utf-8"), parse_constant=_no_number)
    except OSError as error:
        raise TokenizerError(f"{path}: cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise TokenizerError(f"{path}: not a tokenizer in JSON: {error}.") from None
    if not isinstance(content, dict):
        raise TokenizerError(f"{path}: expected a JSON object, got {type(content).__name__}.")
    return content


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no number")


def learn_bpe(
    texts: Iterable[str], source: str, vocab_size: int, min_frequency: int, special_tokens: Sequence[str], nfc: bool
) -> dict[str, Any]:
    """Return a byte-level BPE, learned by the library, as a tokenizer.json.

    Args:
        texts: what it learns from.
        source: the regex whose matches are the pieces that no merge leaves.
        vocab_size: how many ids there are at most.
        min_frequency: how often a pair must occur to be merged.
        special_tokens: names of ids that nothing is learned from.
        nfc: whether every text is put into normal form C first.

    Raises:
        TextError: a text holds a lone surrogate.
        TokenizerError: the library is not installed, or cannot learn.
    """
    try:
        from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers
        from tokenizers import Tokenizer as Library
    except ImportError:
        raise not_installed("tokenizers") from None
    with library_errors("huggingface: the library cannot learn"):
        library = Library(models.BPE())
        if nfc:
            library.normalizer = normalizers.NFC()
        cut = pre_tokenizers.Split(Regex(source), "isolated")
        level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        library.pre_tokenizer = pre_tokenizers.Sequence([cut, level])
        library.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size - len(special_tokens),
            min_frequency=min_frequency,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        library.train_from_iterator((_whole(text) for text in training_segments(texts, special_tokens)), trainer)
        taken = [name for name in special_tokens if library.token_to_id(name) is not None]
        if taken:
            raise TokenizerError(
                f"huggingface: the special {taken[0]!r} is written as a token is that the library learned, and it "
                "would not tell them apart; expected a name such as '<|endoftext|>'."
            )
        library.add_special_tokens(list(special_tokens))
        described: dict[str, Any] = json.loads(library.to_str())
    return described


def _whole(text: str) -> str:
    utf8("huggingface", text)
    return text
