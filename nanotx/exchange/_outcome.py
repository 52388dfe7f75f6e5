"""What comes of an exchange, and what should be known about it."""

from dataclasses import dataclass
from pathlib import Path

from nanotx.tokenizers import Codec


@dataclass(frozen=True, kw_only=True)
class Imported:
    """A codec that came from elsewhere, and what should be known about it."""

    codec: Codec
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Exported:
    """The files that were written, and what should be known about them."""

    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()
