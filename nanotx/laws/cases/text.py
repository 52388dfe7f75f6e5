"""The laws of tokenizers and corpora, and the cases on which they are shown."""

import dataclasses
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from nanotx.config.schema import fields
from nanotx.data.corpus import Corpus
from nanotx.data.corpus.tiny_shakespeare import TinyShakespeare
from nanotx.data.corpus.tokens import Tokens
from nanotx.errors import ConfigError, DataError, LawBroken, TextError
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
from nanotx.laws.corpora import split
from nanotx.laws.fields import fields_matter, has_fields, other_choices, untried
from nanotx.laws.law import Case, Law, Where, first_sentence
from nanotx.laws.random_texts import PRIMER, texts, with_other_fields
from nanotx.laws.segments import cut_anywhere, special_tokens_by_name, trains_in_blocks
from nanotx.laws.strategies import Drawn, configs
from nanotx.laws.subprocess_training import trains_alike_in_subprocess
from nanotx.laws.text import (
    exact_bytes,
    lossless,
    refuses_ids,
    refuses_text,
    saved_and_loaded,
    streams,
    trains_alike,
    unique_digest,
)
from nanotx.tokenizers.byte import Byte, ByteCodec
from nanotx.tokenizers.token_corpus import open_split, token_files_of
from nanotx.tokenizers.token_file import Place, write_tokens

# Tokenizers.


def check_lossless(case: TokenizerCase) -> None:
    """Nothing is lost of the texts that were learned from, which are accepted, and of any other that is."""
    if (asked := getattr(case.config, "nfc", case.codec.nfc)) != case.codec.nfc:
        raise LawBroken(f"lossless: nfc={asked} was asked for, and what was learned has nfc={case.codec.nfc}.")
    for text in case.taught:
        try:
            lossless(case.codec, text, case.names)
        except TextError as error:
            raise LawBroken(f"lossless: {text!r} was learned from, and is refused: {error}") from None
    lossless(case.codec, case.accepted)


def check_trains_alike(case: TokenizerCase) -> None:
    """Learned alike here and in another process."""
    trains_alike(case.config, case.taught, (case.text, *case.taught))
    trains_alike_in_subprocess(case.config, case.taught)


def check_special_tokens(case: SpecialTokensCase) -> None:
    """Every name that was asked for is one; some names are allowed, and then the others."""
    missing = [name for name in getattr(case.config, "special_tokens", ()) if name not in case.codec.special_tokens]
    if missing:
        raise LawBroken(f"special_tokens: {missing[0]!r} was asked for, and is no special of {case.codec!r}.")
    for allowed in case.chosen:
        special_tokens_by_name(case.codec, case.joined, allowed, case.stranger)


def check_cut(case: TokenizerCase) -> None:
    """Cut in two, a text has the same ids; and in blocks, texts teach the same."""
    cut_anywhere(case.codec, case.text)
    cut_anywhere(case.codec, case.accepted)
    trains_in_blocks(case.config, case.taught)


def check_refuses(case: RefusedCase) -> None:
    """Of texts and ids: what cannot be held is refused, and said where."""
    refuses_text(case.codec, case.text)
    refuses_text(case.codec, case.broken)
    for ids in case.ids:
        refuses_ids(case.codec, ids)


# Corpora.


@dataclass(frozen=True, kw_only=True)
class CorpusCase(Case):
    """A corpus, and the text for one that reads it from a file."""

    text: str = PRIMER

    def check(self) -> None:
        """Split it; a file is written for one that has a path."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "text.txt")
            self.write(file, self.text)
            split(at_path(self.config, str(file)))

    def write(self, file: Path, text: str) -> None:
        """Write a text, or a token file of it, as the corpus reads it."""
        if isinstance(self.config, Tokens):
            ids = np.frombuffer(text.encode("utf-8"), np.uint8)
            write_tokens(ByteCodec(), file, lambda _: [(ids, Place(count=len(ids), size=len(ids)))])
        else:
            file.write_bytes(text.encode("utf-8"))


@st.composite
def draw_corpus(draw: Drawn, part: type[Corpus], where: Where) -> CorpusCase:
    """Any corpus of a small size."""
    config = draw(configs(part))
    if "size" in fields(part):
        config = with_other_fields(config, size=draw(st.integers(1, 2000)))
    return CorpusCase(config=config, text="." + draw(texts()) if "path" in fields(part) else PRIMER)


@dataclass(frozen=True, kw_only=True)
class CorpusFieldsCase(CorpusCase):
    """A corpus of which other values of its fields are tried; a path has two files."""

    def usual(self) -> Any:
        """The default config, of a small size."""
        config = type(self.config)()
        return with_other_fields(config, size=SMALL) if "size" in fields(type(config)) else config

    def fits(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            both_texts(at_path(self.usual(), self.files(Path(folder))[0]))

    def check(self) -> None:
        """Every field changes the training text or the validation text."""
        with tempfile.TemporaryDirectory() as folder:
            one, other = self.files(Path(folder))

            def choices(config: Any, name: str) -> dict[str, list[Any]]:
                if name.endswith("path"):
                    return {name: [(other,) if isinstance(config, Tokens) else other]}
                return other_choices(config, name)

            config, usual = at_path(self.config, one), at_path(self.usual(), one)
            fields_matter(config, both_texts, defaults=[usual], changes=choices)

    def files(self, folder: Path) -> tuple[str, str]:
        """Two texts, each in a file of the folder."""
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
            return {name: torch.from_numpy(part[:].astype(np.int64)) for name, part in both_ids.items()}
        both = config.split()
    except DataError as error:
        raise ConfigError(str(error)) from None
    return {
        name: torch.from_numpy(np.frombuffer(text.encode("utf-32-le"), np.uint32).astype(np.int64))
        for name, text in zip(("training", "validation"), both, strict=True)
    }


def untried_of_corpus(part: type[Any]) -> dict[str, str]:
    """The fields of which no other value is known."""
    return {name: reason for name, reason in untried(part).items() if not name.endswith("path")}


def draw_corpus_fields(part: type[Corpus], where: Where) -> st.SearchStrategy[CorpusFieldsCase]:
    """Any corpus of a small size."""
    return draw_corpus(part, where).map(lambda play: CorpusFieldsCase(config=play.config, text=play.text))


LAWS: dict[str, tuple[Law, ...]] = {
    "tokenizer": (
        Law(
            name="lossless",
            about="a text that it accepts, and any it learned from, comes back to the letter",
            case=TokenizerCase,
            draw=draw_tokenizer,
            check=check_lossless,
        ),
        Law(
            name="bytes",
            about="each id stands for bytes of its own, whatever stands beside it",
            case=IdsCase,
            draw=draw_ids,
            check=lambda case: exact_bytes(case.codec, case.row),
        ),
        Law(
            name="stream",
            about="decoded one id at a time, what was handed out stays, and all of it is the text",
            case=IdsCase,
            draw=draw_ids,
            check=lambda case: streams(case.codec, case.row),
        ),
        Law(
            name="saved",
            about="saved and loaded, it is equal and gives the same ids",
            case=TokenizerCase,
            draw=draw_tokenizer,
            check=lambda case: saved_and_loaded(case.codec, case.accepted),
        ),
        Law(
            name="trains_alike",
            about="the same texts teach the same tokenizer, at any time and in any process",
            case=TokenizerCase,
            draw=draw_tokenizer,
            check=check_trains_alike,
        ),
        Law(
            name="refuses",
            about="what it cannot hold is refused with the character and its offset, or the id and its index",
            case=RefusedCase,
            draw=draw_refused,
            check=check_refuses,
        ),
        Law(
            name="special_tokens",
            about="the name of a special becomes its id where it is allowed, and nowhere else",
            case=SpecialTokensCase,
            draw=draw_special_tokens,
            check=check_special_tokens,
        ),
        Law(
            name="cut",
            about="where it says that a text may be cut, both sides have the ids of the whole, and teach the same",
            case=TokenizerCase,
            draw=draw_cut,
            check=check_cut,
        ),
        Law(
            name="digest",
            about="its digest is its own: a changed file is refused, or is another's",
            case=FileCase,
            draw=draw_file,
            check=lambda case: unique_digest(case.codec, case.path),
        ),
        Law(
            name="field_matters",
            about=first_sentence(tokenizer_fields.TokenizerFieldsCase.check),
            case=tokenizer_fields.TokenizerFieldsCase,
            draw=tokenizer_fields.draw_tokenizer_fields,
            check=tokenizer_fields.TokenizerFieldsCase.check,
            fits=has_fields,
            unless="it has no fields",
            left_out=tokenizer_fields.untried_of_tokenizer,
            most=3,
        ),
    ),
    "corpus": (
        Law(
            name="split",
            about="training and validation, joined, are the text, the same every time",
            case=CorpusCase,
            draw=draw_corpus,
            check=CorpusCase.check,
            # What is fetched may be out of reach, and this one is checked by its digest whenever it is read.
            fits=lambda part: part is not TinyShakespeare,
            unless="it is checked by its digest whenever it is read",
        ),
        Law(
            name="field_matters",
            about=first_sentence(CorpusFieldsCase.check),
            case=CorpusFieldsCase,
            draw=draw_corpus_fields,
            check=CorpusFieldsCase.check,
            fits=lambda part: part is not TinyShakespeare,
            unless="it is checked by its digest whenever it is read",
            left_out=untried_of_corpus,
            most=3,
        ),
    ),
}
