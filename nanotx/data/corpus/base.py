"""Corpora: where a text comes from, and which part of it is kept for validation."""

import glob
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanotx.config.registry import Slot, file_of, is_foreign
from nanotx.config.schema import check_fraction
from nanotx.errors import ConfigError, DataError, UnknownPart

BLOCK = 2**18
"""Characters that are looked at together."""


class Unavailable(DataError):
    """A corpus that has to be fetched and is out of reach; where none was named, another may serve."""


@dataclass(frozen=True, kw_only=True)
class Corpus(Slot, ABC, slot="corpus", package="nanotx.data.corpus", group="nanotx.corpus"):
    """The slot: a text. A part is a frozen dataclass that can read or make it."""

    validation: float = 0.1  # fraction of the text, at its end, that is held out for validation

    def __post_init__(self) -> None:
        check_fraction(self, "validation")

    @classmethod
    def table(cls, name: object) -> dict[str, Any]:
        """The config table of a part's name, or of the path of a text, a folder or a glob: that of the part `file`.

        Raises:
            UnknownPart: it is neither; says what it could have been.
        """
        if name in cls.names() or not isinstance(name, str):
            return {"part": name}
        if Path(name).suffix or {"/", os.sep} & set(name) or glob.has_magic(name) or os.path.lexists(name):
            return {"part": "file", "path": name}
        try:
            cls.find(name)
        except UnknownPart as error:
            raise UnknownPart(f"{error} A text of your own is named by its path, and none is here.") from None
        return {"part": name}

    @abstractmethod
    def text(self) -> str:
        """The whole text.

        Raises:
            Unavailable: it cannot be fetched; says why and what to try.
            DataError: it cannot be used; says why.
        """

    def split(self) -> tuple[str, str]:
        """The training and the validation text, cut at a character before any tokenizer sees them.

        Raises:
            DataError: one of the two would be empty, or there is no text.
            ConfigError: a corpus of one's own returns something else than a text.
        """
        text = self.checked()
        cut = len(text) - round(len(text) * self.validation)
        if not 0 < cut < len(text):
            size = len(text)
            shares = [share for share in (0.1, 0.5) if 0 < round(size * share) < size]
            raise DataError(
                f"corpus {self.part}: {size} character{'s' * (size != 1)} with validation={self.validation:g} leave "
                f"{cut} to train on and {size - cut} to validate on; both need some: try "
                f"{f'--corpus.validation {shares[0]:g}, or ' if shares else ''}a longer text."
            )
        return text[:cut], text[cut:]

    def checked(self) -> str:
        """The whole text, if it is one: a part from elsewhere may return and raise anything.

        Raises:
            DataError: it cannot be read, or holds a lone surrogate.
            ConfigError: it is no text.
        """
        where = f"corpus {self.part}" + (f" ({file_of(type(self))})" if is_foreign(type(self)) else "")
        try:
            text = self.text()
        except OSError as error:
            raise DataError(f"{where}: cannot be read: {error}; mend it, or try another --corpus.") from error
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
        """The bits per byte of the validation text under the process that wrote it; None if that is unknown."""
        return None
