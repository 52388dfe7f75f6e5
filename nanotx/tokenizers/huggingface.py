"""Any tokenizer of the Hugging Face world, by the library `tokenizers`: its `tokenizer.json`, or one learned here.

With a path, nothing is learned: what a run stores is the file's content whole. Without one, the library learns a
byte-level BPE, of which every text has ids. Ordinary text never becomes a special id, and what a file says about
cutting texts off, filling them up or putting special ids around them is not done.

Source: https://github.com/huggingface/tokenizers
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from reprlib import repr as brief
from typing import Any

import numpy as np

from nanotx.config import at_least
from nanotx.errors import ConfigError, TextError, TokenizerError
from nanotx.tokenizers import Codec, Ids, Tokenizer, exactly, utf8
from nanotx.tokenizers._libraries import missing, tried
from nanotx.tokenizers._numbered import by_id, joined
from nanotx.tokenizers._patterns import source_of
from nanotx.tokenizers._sniff import LARGEST
from nanotx.tokenizers._specials import check_specials, lessons

# Bytes in printable characters: one that is a printable character of Latin-1 is that; the other 68 are U+0100 and on.
# Source: `bytes_to_unicode` of https://github.com/openai/gpt-2/blob/master/src/encoder.py
PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
OTHERS = [value for value in range(256) if value not in set(PRINTABLE)]
CHARACTERS = dict(
    sorted([*((one, chr(one)) for one in PRINTABLE), *((one, chr(256 + n)) for n, one in enumerate(OTHERS))])
)
VALUES = {character: value for value, character in CHARACTERS.items()}


@Tokenizer.register("huggingface")
@dataclass(frozen=True, kw_only=True)
class Huggingface(Tokenizer):
    """A `tokenizer.json`; or a byte-level BPE that the library learns, as large as the texts allow."""

    path: str = ""  # a tokenizer.json; with it the other fields are not used
    vocab_size: int = 512  # at most: the 256 bytes, the merges, the specials
    pattern: str = "gpt4"  # "gpt2", "gpt4" (cl100k), or a regex of your own, in the library's syntax too
    min_frequency: int = 1  # how often a pair must occur to be merged
    specials: tuple[str, ...] = ()  # names such as <|endoftext|>: ids of their own, learned from by nobody
    nfc: bool = False  # puts every text into Unicode's normal form C first

    def __post_init__(self) -> None:
        check_specials(self.specials)
        at_least(self, 256 + len(self.specials), "vocab_size")
        at_least(self, 1, "min_frequency")
        source_of(self.pattern)

    def learn(self, texts: Iterable[str]) -> "HuggingfaceCodec":
        """The file's tokenizer, for which the texts are not read; or what the library learns from them.

        Raises:
            TextError: a text holds a lone surrogate.
            TokenizerError: there is no such file, it is none, or the library is not installed.
        """
        if self.path:
            described = read_json(Path(self.path))
            try:
                return HuggingfaceCodec(described)
            except (TokenizerError, ConfigError) as error:
                raise TokenizerError(f"{self.path}: {error}") from None
        return HuggingfaceCodec(learned(self, texts))

    @classmethod
    def read(cls, table: dict[str, Any]) -> "HuggingfaceCodec":
        """The codec of a whole tokenizer.json; see `Tokenizer.read`."""
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
    specials: Mapping[str, int] = field(init=False)
    nfc: bool = field(init=False)
    vocab_size: int = field(init=False)
    apart: bool = field(init=False)  # whether the decoder is byte-level
    _tokens: tuple[bytes | None, ...] = field(init=False, repr=False)  # by id; exact where it is

    def __post_init__(self) -> None:
        library = self._library
        added = {token.content: (one, token.special) for one, token in library.get_added_tokens_decoder().items()}
        specials = {name: one for name, (one, special) in added.items() if special}
        found = [(name.encode("utf-8"), one) for name, (one, special) in added.items() if not special]
        words = library.get_vocab(with_added_tokens=False).items()
        found += [(from_printable(word), one) for word, one in words if word not in added]
        tokens = by_id(self.part, [token for token, _ in found], [one for _, one in found], specials)
        object.__setattr__(self, "specials", dict(sorted(specials.items(), key=lambda item: item[1])))
        object.__setattr__(self, "nfc", kinds_of(self.described, "normalizer", "normalizers") == ["NFC"])
        object.__setattr__(self, "vocab_size", len(tokens))
        object.__setattr__(self, "apart", kinds_of(self.described, "decoder", "decoders") == ["ByteLevel"])
        object.__setattr__(self, "_tokens", tokens)

    def ordinary(self, text: str) -> Ids:
        """The library's ids; see `Codec.ordinary`."""
        utf8(self.part, text)
        library = self._library
        with tried(f"huggingface: the library cannot encode this text of {len(text)} characters", TextError):
            return np.array(library.encode(text, add_special_tokens=False).ids, np.int32)

    def decode_bytes(self, ids: Iterable[Any]) -> bytes:
        """The tokens' bytes, joined, where the decoder is byte-level; else the library's text, in UTF-8."""
        numbers: list[int] = self.check_ids(ids).tolist()
        exact = joined(self.part, self._tokens, numbers)  # an id that stands for nothing is refused
        if self.apart:
            return exact
        with tried("huggingface: the library cannot decode these ids", TextError):
            return str(self._library.decode(numbers, skip_special_tokens=False)).encode("utf-8")

    def table(self) -> dict[str, Any]:
        """The tokenizer.json, whole."""
        return {"tokenizer": dict(self.described)}

    @cached_property
    def _library(self) -> Any:
        try:
            from tokenizers import Tokenizer as Library
        except ImportError:
            raise missing("tokenizers") from None
        check_sound(self.described)
        with tried("huggingface: the library cannot read this tokenizer"):
            library = Library.from_str(json.dumps(self.described))
            library.no_truncation()
            library.no_padding()
            library.encode_special_tokens = True
        return library


def learned(idea: Huggingface, texts: Iterable[str]) -> dict[str, Any]:
    """A byte-level BPE, learned by the library, as a tokenizer.json.

    Raises:
        TextError: a text holds a lone surrogate.
        TokenizerError: the library is not installed, or cannot learn.
    """
    try:
        from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers
        from tokenizers import Tokenizer as Library
    except ImportError:
        raise missing("tokenizers") from None
    with tried("huggingface: the library cannot learn"):
        library = Library(models.BPE())
        if idea.nfc:
            library.normalizer = normalizers.NFC()
        cut = pre_tokenizers.Split(Regex(source_of(idea.pattern)), "isolated")
        level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        library.pre_tokenizer = pre_tokenizers.Sequence([cut, level])
        library.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=idea.vocab_size - len(idea.specials),
            min_frequency=idea.min_frequency,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        library.train_from_iterator((_whole(text) for text in lessons(texts, idea.specials)), trainer)
        library.add_special_tokens(list(idea.specials))
        described: dict[str, Any] = json.loads(library.to_str())
    return described


def _whole(text: str) -> str:
    utf8("huggingface", text)
    return text


def check_sound(described: Mapping[str, Any]) -> None:
    """Refuse what makes the library end the process: merges whose second half does not begin with the prefix it should.

    Raises:
        TokenizerError: there is such a merge.
    """
    model = described.get("model")
    prefix = model.get("continuing_subword_prefix") if isinstance(model, dict) else None
    merges = model.get("merges") if isinstance(model, dict) and isinstance(prefix, str) else None
    for index, merge in enumerate(merges if isinstance(merges, list) else ()):
        last = (
            merge.split(" ")[-1] if isinstance(merge, str) else merge[-1] if isinstance(merge, list) and merge else ""
        )
        if not isinstance(last, str) or not last.startswith(str(prefix)):
            raise TokenizerError(
                f"huggingface: model: merge {index}: expected {prefix!r} at the beginning of the second half, "
                f"got {brief(merge)}."
            )


def kinds_of(described: Mapping[str, Any], step: str, steps: str) -> list[str]:
    """The types of a step's parts, in their order; none where there is no such step."""
    one = described.get(step)
    inside = one.get(steps) if isinstance(one, dict) and one.get("type") == "Sequence" else [one]
    parts = inside if isinstance(inside, list) else []
    return [str(part.get("type")) if isinstance(part, dict) else "" for part in parts if part is not None]


def to_printable(token: bytes) -> str:
    """The printable characters of a token's bytes: a space is `Ġ`, a newline `Ċ`."""
    return "".join(map(CHARACTERS.__getitem__, token))


def from_printable(word: str) -> bytes:
    """The bytes of a token's characters; where one of them stands for no byte, those of its UTF-8."""
    try:
        return bytes(map(VALUES.__getitem__, word))
    except KeyError:
        return word.encode("utf-8", "replace")


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file that anyone may have written.

    Raises:
        TokenizerError: it cannot be read, or is none.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise TokenizerError(f"{path}: this is larger than {LARGEST} bytes; no tokenizer that nanotx keeps is.")
        found = json.loads(data.decode("utf-8"), parse_constant=_no_number)
    except OSError as error:
        raise TokenizerError(f"{path}: no tokenizer can be read here: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise TokenizerError(f"{path}: this is not a tokenizer in JSON: {error}.") from None
    if not isinstance(found, dict):
        raise TokenizerError(f"{path}: expected a JSON object, got {type(found).__name__}.")
    return found


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no number")
