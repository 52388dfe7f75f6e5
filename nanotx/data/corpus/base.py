"""Corpora: the sources of texts and of token files, and their split into training and validation."""

import glob
import os
from abc import ABC
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanotx.config.registry import Slot, file_of, is_foreign
from nanotx.config.schema import check_fraction
from nanotx.data.text_files import files_like
from nanotx.errors import ConfigError, DataError, UnknownPart
from nanotx.files import open_regular

BLOCK = 2**18
"""Characters that are checked together."""

TOKEN_FILE_MAGIC = b"nanotxid"
"""The first bytes of a token file.

They are here, not in `tokenizers/token_file.py`, which writes them: a corpus has to recognise a token file, and the
tokenizers import this package, so it cannot import them.
"""


def is_token_file(path: Path) -> bool:
    """Return whether a path is that of a token file, by its first bytes."""
    try:
        with open_regular(path) as file:
            return file.read(len(TOKEN_FILE_MAGIC)) == TOKEN_FILE_MAGIC
    except OSError:
        return False


@dataclass(frozen=True, kw_only=True)
class TokenFiles:
    """Token files, as `nanotx tokenizer encode --out` writes them, all by one tokenizer.

    Without validation files, the last ids of the training files, joined, are for validation; of a mixture, the last ids
    of each of its texts.
    """

    train: Sequence[str | Path]
    val: Sequence[str | Path] = ()
    sizes: Sequence[int] = ()  # of a mixture: how many of the training files, in their order, each of its texts has
    weights: Sequence[float] = ()  # of a mixture: the fraction of the rows of a batch that are of each text

    def __post_init__(self) -> None:
        if not self.train or isinstance(self.train, str) or isinstance(self.val, str):
            raise DataError(
                f"token files: expected lists of paths, and at least one to train on, got train={self.train!r} and "
                f"val={self.val!r}."
            )
        sizes = tuple(self.sizes)
        if (sizes or self.weights) and (len(sizes) != len(self.weights) or sum(sizes) != len(self.train) or 0 in sizes):
            raise DataError(
                f"token files: expected a weight for each text of a mixture, and sizes that add up to its "
                f"{len(self.train)} files, got sizes={sizes} and weights={tuple(self.weights)}."
            )

    @property
    def paths(self) -> dict[str, list[Path]]:
        """Return the paths under `train` and `val`."""
        return {"train": list(map(Path, self.train)), "val": list(map(Path, self.val))}


class Unavailable(DataError):
    """A corpus that must be downloaded cannot be; if the user named none, another may be used."""


@dataclass(frozen=True, kw_only=True)
class Corpus(Slot, ABC, slot="corpus", package="nanotx.data.corpus", group="nanotx.corpus"):
    """The slot of corpora. A part is a frozen dataclass with a method `text` or `token_files`."""

    validation: float = 0.1  # fraction of the text or the tokens, at the end, that is held out for validation

    def __post_init__(self) -> None:
        check_fraction(self, "validation")

    @classmethod
    def table(cls, name: object) -> dict[str, Any]:
        """Return the config table of a part's name, or of the path of a file, a folder or a glob.

        A path is read by the part `tokens` if it leads to a token file, otherwise by the part `file`.

        Raises:
            UnknownPart: it is neither; the message suggests names.
        """
        if name in cls.names() or not isinstance(name, str):
            return {"part": name}
        if Path(name).suffix or {"/", os.sep} & set(name) or glob.has_magic(name) or os.path.lexists(name):
            return {"part": "tokens", "path": [name]} if leads_to_tokens(name) else {"part": "file", "path": name}
        try:
            cls.find(name)
        except UnknownPart as error:
            raise UnknownPart(
                f"{error} A text of your own is named by its path, and there is no file of this name."
            ) from None
        return {"part": name}

    def text(self) -> str:
        """Return the whole text.

        Raises:
            Unavailable: it cannot be fetched; the message says why and what to try.
            DataError: it cannot be used, or the corpus consists of token files; the message says why.
        """
        if type(self).token_files is Corpus.token_files:
            raise ConfigError(
                f"{self.where()}: expected a method text() that returns a str, or token_files() that returns "
                "TokenFiles; define one of them."
            )
        raise DataError(f"{self.where()}: consists of token files, and a text is needed here; try another --corpus.")

    def token_files(self) -> TokenFiles | None:
        """Return the token files of this corpus; None for a corpus with a text.

        Raises:
            DataError: there are none; the message says why.
        """
        return None

    @property
    def keeps_apart(self) -> bool:
        """Whether each document is read as if it were alone, in training and in evaluation."""
        return False

    @property
    def packs_documents(self) -> bool:
        """Whether windows are packed from whole documents, in place of being cut from one text."""
        return self.keeps_apart

    def document_texts(self) -> Iterator[str]:
        """Yield the documents of this corpus, which `keeps_apart` keeps apart; each is a text of its own.

        Raises:
            DataError: they cannot be read.
        """
        yield self.checked()

    def where(self) -> str:
        """Return the name of this corpus for messages, with its file if it does not come with nanotx."""
        return f"corpus {self.part}" + (f" ({file_of(type(self))})" if is_foreign(type(self)) else "")

    def split(self) -> tuple[str, str]:
        """Return the training and the validation text, split at a character before tokenization.

        Raises:
            DataError: one of the two would be empty, or there is no text.
            ConfigError: a user's corpus does not return a text.
        """
        text = self.checked()
        cut = self.cut(len(text))
        return text[:cut], text[cut:]

    def cut(self, size: int) -> int:
        """Return the number of training characters in a text of some size; the others are for validation.

        Raises:
            DataError: one of the two parts would be empty.
        """
        cut = size - round(size * self.validation)
        if not 0 < cut < size:
            shares = [share for share in (0.1, 0.5) if 0 < round(size * share) < size]
            raise DataError(
                f"corpus {self.part}: {size} character{'s' * (size != 1)} with validation={self.validation:g} leave "
                f"{cut} to train on and {size - cut} to validate on; both need some: try "
                f"{f'--corpus.validation {shares[0]:g}, or ' if shares else ''}a longer text."
            )
        return cut

    def size_hint(self) -> int:
        """Return the approximate size of the text in bytes, without reading it; 0 if it is unknown."""
        return 0

    def characters(self) -> int | None:
        """Return the number of distinct characters of the training text if it is known without reading; else None."""
        return None

    def is_local(self) -> bool:
        """Return whether reading this corpus needs no network."""
        return True

    def pieces(self) -> Iterator[str]:
        """Yield the text in pieces, each but the last ending at a cut (see `nanotx/data/text_files.py`).

        Raises:
            DataError: it cannot be read.
        """
        yield self.checked()

    def checked(self) -> str:
        """Return the whole text after checking it: a user's part may return and raise anything.

        Raises:
            DataError: it cannot be read, or contains a lone surrogate.
            ConfigError: it is not a text.
        """
        where = self.where()
        try:
            text = self.text()
        except OSError as error:
            raise DataError(f"{where}: cannot be read: {error}; fix it, or try another --corpus.") from error
        if not isinstance(text, str):
            raise ConfigError(
                f"{where}: text() returned {type(text).__name__}; expected str. Correct the file and try again."
            )
        for at in range(0, len(text), BLOCK):
            try:
                text[at : at + BLOCK].encode("utf-8")
            except UnicodeEncodeError as error:
                raise DataError(
                    f"{where}: lone surrogate U+{ord(text[at + error.start]):04X} at offset {at + error.start} is no "
                    "character; try text.encode('utf-8', 'replace').decode('utf-8')."
                ) from None
        return text

    def floor(self) -> float | None:
        """Return the bits per byte of the validation text under the process that wrote it; None if that is unknown."""
        return None


def leads_to_tokens(path: str) -> bool:
    """Return whether a path is a token file, or a folder or glob of which the first file is one."""
    try:
        if Path(path).is_dir():
            files = sorted(file for file in Path(path).iterdir() if file.is_file() and not file.name.startswith("."))
        else:
            files = [Path(path)] if Path(path).exists() else files_like(path)
    except (OSError, ValueError, DataError):
        return False
    return bool(files) and is_token_file(files[0])
