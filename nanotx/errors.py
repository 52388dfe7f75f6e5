"""Errors, their exit codes, and text that is safe to print on a terminal."""

import difflib
import shlex
import unicodedata
from collections.abc import Iterable
from pathlib import Path


class NanotxError(Exception):
    """Something the user can mend; the command line prints it without a traceback."""

    exit_code = 1


class ConfigError(NanotxError, ValueError):
    """A recipe, a flag or a field that cannot be."""

    exit_code = 2


class UnknownPart(ConfigError):
    """A name that no part of the slot bears."""


class DataError(NanotxError):
    """A corpus that cannot be had or used."""

    exit_code = 3


class TokenizerError(DataError):
    """A tokenizer that cannot be learned, read or used."""


class TextError(TokenizerError, ValueError):
    """A text, or ids, that this tokenizer cannot take."""


class RunError(NanotxError):
    """A run folder, checkpoint or weights that cannot be read or written."""

    exit_code = 4


class MemoryFull(RunError):
    """Memory that does not suffice for what was asked for."""


class Diverged(NanotxError):
    """A loss or gradient that is no longer a finite number."""

    exit_code = 5


class LawBroken(NanotxError, AssertionError):
    """A part that does not do what every part of its slot must."""


def is_memory_full(error: BaseException) -> bool:
    """Whether an error says that memory could not be had: Python's own, an accelerator's, or torch's on a CPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    said = ("can't allocate memory", "not enough memory", "Cannot allocate memory", "out of memory")
    return isinstance(error, RuntimeError) and any(words in str(error) for words in said)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The nearest known word as a sentence with a space before it; empty when nothing is near."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""


def printable(text: str) -> str:
    """The text with U+FFFD for each control character but newline and tab, and for what turns the writing around."""
    return "".join("\ufffd" if is_terminal_control(character) else character for character in text)


def shell_quoted(path: str | Path) -> str:
    """A path as one word of a shell, and no flag."""
    text = path.as_posix() if isinstance(path, Path) else path
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def is_terminal_control(character: str) -> bool:
    """Whether a terminal takes a character for an order: control characters, and those that reorder what follows."""
    kind = unicodedata.category(character)
    return (kind == "Cc" and character not in "\n\t") or unicodedata.bidirectional(character) in BIDI_CONTROLS


BIDI_CONTROLS = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
