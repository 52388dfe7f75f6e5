"""The laws of tokenizers and corpora, and their random cases."""

import dataclasses
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from nanotx.config.schema import fields
from nanotx.data.conversations import Conversations
from nanotx.data.corpus import Corpus
from nanotx.data.corpus.tiny_shakespeare import TinyShakespeare
from nanotx.data.corpus.tokens import Tokens
from nanotx.data.fetched import Fetched
from nanotx.errors import ConfigError, DataError, LawBroken, TextError
from nanotx.laws import corpora
from nanotx.laws import text as text_laws
from nanotx.laws.cases import tokenizer_fields
from nanotx.laws.cases.tokenizer_case import (
    FileCase,
    IdsCase,
    RefusedCase,
    SpecialTokensCase,
    TokenizerCase,
    draw_cut,
    draw_file,
    draw_ids,
    draw_refused,
    draw_special_tokens,
    draw_tokenizer,
)
from nanotx.laws.fields import fields_matter, has_fields, other_choices, untried
from nanotx.laws.law import Case, LawBook, Where
from nanotx.laws.random_texts import PRIMER, texts, with_other_fields
from nanotx.laws.segments import cut_anywhere, special_tokens_by_name, trains_in_blocks
from nanotx.laws.strategies import Drawn, configs
from nanotx.laws.subprocess_training import trains_alike_in_subprocess
from nanotx.tokenizers.byte import Byte, ByteCodec
from nanotx.tokenizers.token_corpus import open_split, token_files_of
from nanotx.tokenizers.token_file import Block, Place, write_tokens

# Tokenizers.

LAWS = LawBook()


@LAWS.law("tokenizer", draw=draw_tokenizer)
def lossless(case: TokenizerCase) -> None:
    """A text that it accepts, and any that it was trained on, comes back exactly."""
    if (requested := getattr(case.config, "nfc", case.codec.nfc)) != case.codec.nfc:
        raise LawBroken(f"lossless: nfc={requested} was requested, and the trained tokenizer has nfc={case.codec.nfc}.")
    for text in case.taught:
        try:
            text_laws.lossless(case.codec, text, case.names)
        except TextError as error:
            raise LawBroken(f"lossless: {text!r} was learned from, and is refused: {error}") from None
    text_laws.lossless(case.codec, case.accepted)


@LAWS.law("tokenizer", draw=draw_ids, name="bytes")
def exact_bytes(case: IdsCase) -> None:
    """Each id has bytes of its own, whatever is next to it."""
    text_laws.exact_bytes(case.codec, case.row)


@LAWS.law("tokenizer", draw=draw_ids)
def stream(case: IdsCase) -> None:
    """Decoded one id at a time, the text is that of all ids, and nothing returned is taken back."""
    text_laws.streams(case.codec, case.row)


@LAWS.law("tokenizer", draw=draw_tokenizer)
def saved(case: TokenizerCase) -> None:
    """Saved and loaded, it is equal and gives the same ids."""
    text_laws.saved_and_loaded(case.codec, case.accepted)


@LAWS.law("tokenizer", draw=draw_tokenizer)
def trains_alike(case: TokenizerCase) -> None:
    """The same texts train the same tokenizer, at any time and in any process."""
    text_laws.trains_alike(case.config, case.taught, (case.text, *case.taught))
    trains_alike_in_subprocess(case.config, case.taught)


@LAWS.law("tokenizer", draw=draw_refused)
def refuses(case: RefusedCase) -> None:
    """What it cannot hold is refused with the character and its offset, or the id and its index."""
    text_laws.refuses_text(case.codec, case.text)
    text_laws.refuses_text(case.codec, case.broken)
    for ids in case.ids:
        text_laws.refuses_ids(case.codec, ids)


@LAWS.law("tokenizer", draw=draw_special_tokens)
def special_tokens(case: SpecialTokensCase) -> None:
    """The name of a special token becomes its id where it is allowed, and nowhere else."""
    missing = [name for name in getattr(case.config, "special_tokens", ()) if name not in case.codec.special_tokens]
    if missing:
        raise LawBroken(f"special_tokens: {missing[0]!r} was asked for, and is no special of {case.codec!r}.")
    for allowed in case.chosen:
        special_tokens_by_name(case.codec, case.joined, allowed, case.unknown_name)


@LAWS.law("tokenizer", draw=draw_cut)
def cut(case: TokenizerCase) -> None:
    """Where it states that a text may be cut, both sides have the ids of the whole, and train the same."""
    cut_anywhere(case.codec, case.text)
    cut_anywhere(case.codec, case.accepted)
    trains_in_blocks(case.config, case.taught)


@LAWS.law("tokenizer", draw=draw_file)
def digest(case: FileCase) -> None:
    """Its digest is its own: a changed file is refused, or is another tokenizer's."""
    text_laws.unique_digest(case.codec, case.path)


@LAWS.law(
    "tokenizer",
    draw=tokenizer_fields.draw_tokenizer_fields,
    name="field_matters",
    fits=has_fields,
    unless="it has no fields",
    left_out=tokenizer_fields.untried_of_tokenizer,
    most=3,
)
def tokenizer_field_matters(case: tokenizer_fields.TokenizerFieldsCase) -> None:
    """Every field changes the vocabulary, the ids of a text, or what is refused."""
    case.check()


# Corpora.


@dataclass(frozen=True, kw_only=True)
class CorpusCase(Case):
    """A corpus, and the text for one that reads it from a file."""

    text: str = PRIMER

    def check(self) -> None:
        """Check the split; a file is written for a corpus that has a path."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "text.txt")
            self.write(file, self.text)
            corpora.split(at_path(self.config, str(file)))

    def write(self, file: Path, text: str) -> None:
        """Write a text, or a token file of it in which each line is a document, as the corpus reads it."""
        if isinstance(self.config, Tokens):
            ids = np.frombuffer(text.encode("utf-8"), np.uint8)
            ends = np.cumsum([len(line) for line in text.encode("utf-8").splitlines(keepends=True)], dtype=np.int64)
            place = Place(count=len(ids), size=len(ids), documents=len(ends))
            write_tokens(ByteCodec(), file, lambda _: [Block(ids, place, ends)])
        elif isinstance(self.config, Conversations):
            lines = [json.dumps({"prompt": ".", "answer": f".{line}"}) for line in text.split("\n")]
            file.write_text("\n".join(lines), encoding="utf-8")
        else:
            file.write_bytes(text.encode("utf-8"))


@st.composite
def draw_corpus(draw: Drawn, part: type[Corpus], where: Where) -> CorpusCase:
    """Draw any corpus of a small size."""
    config = draw(configs(part))
    if "size" in fields(part):
        config = with_other_fields(config, size=draw(st.integers(1, 2000)))
    return CorpusCase(config=config, text="." + draw(texts()) if "path" in fields(part) else PRIMER)


@dataclass(frozen=True, kw_only=True)
class CorpusFieldsCase(CorpusCase):
    """A corpus, for the law that each of its fields matters; a path has two files."""

    def usual(self) -> Any:
        """Return the default config, of a small size."""
        config = type(self.config)()
        return with_other_fields(config, size=SMALL) if "size" in fields(type(config)) else config

    def fits(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            both_texts(at_path(self.usual(), self.files(Path(folder))[0]))

    def check(self) -> None:
        """Raise LawBroken unless every field changes the training text or the validation text."""
        with tempfile.TemporaryDirectory() as folder:
            path, other = self.files(Path(folder))

            def choices(config: Any, name: str) -> dict[str, list[Any]]:
                if name.endswith("path"):
                    return {name: [(other,) if isinstance(config, Tokens) else other]}
                return other_choices(config, name)

            config, usual = at_path(self.config, path), at_path(self.usual(), path)
            fields_matter(config, both_texts, defaults=[usual], changes=choices)

    def files(self, folder: Path) -> tuple[str, str]:
        """Write two texts, each to a file of the folder, and return the paths."""
        for name, text in (("one.txt", PRIMER + self.text), ("other.txt", PRIMER.upper() + self.text)):
            self.write(Path(folder, name), text)
        return str(folder / "one.txt"), str(folder / "other.txt")


SMALL = 2000
"""Characters of a corpus that has a size."""


def at_path(config: Any, path: str) -> Any:
    """Return the corpus with this file, if it has a path."""
    if isinstance(config, Tokens):
        return dataclasses.replace(config, path=(path,), val_path=())
    return dataclasses.replace(config, path=path) if "path" in fields(type(config)) else config


def both_texts(config: Any) -> dict[str, Tensor]:
    """Return the code points of the training and of the validation text, or the ids of token files.

    Raises:
        ConfigError: this corpus cannot be split.
    """
    try:
        if files := token_files_of(config):
            ids = open_split(config, files, Byte())
            both_ids = {"training": ids.train, "validation": ids.val}
            kept = {"kept apart": torch.tensor([int(config.keeps_apart)])}
            return kept | {name: torch.from_numpy(part[:].astype(np.int64)) for name, part in both_ids.items()}
        both = config.split()
    except DataError as error:
        raise ConfigError(str(error)) from None
    return {"kept apart": torch.tensor([int(config.keeps_apart)])} | {
        name: torch.from_numpy(np.frombuffer(text.encode("utf-32-le"), np.uint32).astype(np.int64))
        for name, text in zip(("training", "validation"), both, strict=True)
    }


FETCHED = "it is checked by its digest whenever it is read"


def is_local(part: type[Any]) -> bool:
    """Return whether a corpus needs no network."""
    return part is not TinyShakespeare and not issubclass(part, Fetched)


def untried_of_corpus(part: type[Any]) -> dict[str, str]:
    """Return the fields of which no other value is known."""
    return {name: reason for name, reason in untried(part).items() if not name.endswith("path")}


def draw_corpus_fields(part: type[Corpus], where: Where) -> st.SearchStrategy[CorpusFieldsCase]:
    """Any corpus of a small size."""
    return draw_corpus(part, where).map(lambda play: CorpusFieldsCase(config=play.config, text=play.text))


@LAWS.law("corpus", draw=draw_corpus, fits=is_local, unless=FETCHED)
def split(case: CorpusCase) -> None:
    """Training and validation text, joined, are the text, the same every time."""
    case.check()


@LAWS.law(
    "corpus",
    draw=draw_corpus_fields,
    name="field_matters",
    fits=is_local,
    unless=FETCHED,
    left_out=untried_of_corpus,
    most=3,
)
def corpus_field_matters(case: CorpusFieldsCase) -> None:
    """Every field changes the training text or the validation text."""
    case.check()
