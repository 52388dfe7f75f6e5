"""Errors, their exit codes, and text that is safe to print on a terminal.

The exit codes of all commands; `cli/entry.py` turns errors into them:

- 0: success
- 1: a broken law, a difference that `diff` or `replay` finds, a failed `selftest`, a bug in nanotx (with a traceback)
- 2: `ConfigError`, an invalid recipe, flag or field, or a plug-in that raises
- 3: `DataError` and `TokenizerError`, a corpus, tokenizer or text
- 4: `RunError`, a run's folder or files; `MemoryFull`; a failed check of `verify`; standard output that is refused
- 5: `Diverged`, a loss or gradient that is NaN or infinite
- 130: Ctrl-C
- 141: the reader of the output closed the pipe
- 128 + n: a run that signal n stopped, such as 143 for SIGTERM (`training/signals.py`)
"""

import difflib
import shlex
import unicodedata
from collections.abc import Iterable
from pathlib import Path


class NanotxError(Exception):
    """Error that the user can fix; the command line prints it without a traceback."""

    exit_code = 1


class ConfigError(NanotxError, ValueError):
    """Invalid recipe, flag or field."""

    exit_code = 2


class UnknownPart(ConfigError):
    """Unknown name of a part."""


class DataError(NanotxError):
    """Corpus that cannot be loaded or used."""

    exit_code = 3


class TokenizerError(DataError):
    """A tokenizer that cannot be learned, read or used."""


class TextError(TokenizerError, ValueError):
    """Text or ids that a tokenizer cannot encode or decode."""


class RunError(NanotxError):
    """Run folder, checkpoint or weights that cannot be read or written."""

    exit_code = 4


class RunWarning(UserWarning):
    """Something about a run that its user should know, and that stops nothing."""


class MemoryFull(RunError):
    """Out of memory."""


class RankLost(RunError):
    """A process that trained together with others no longer answers.

    Args:
        message: which one, and what to do.
        reporter: the lowest rank that still works, which prints it.
    """

    def __init__(self, message: str, reporter: int = 0) -> None:
        super().__init__(message)
        self.reporter = reporter


class Diverged(NanotxError):
    """Loss or gradient that is NaN or infinite."""

    exit_code = 5


class LawBroken(NanotxError, AssertionError):
    """Part that breaks a law of its slot."""


def is_memory_full(error: BaseException) -> bool:
    """Return whether an error means out of memory: of Python, of an accelerator, or of torch on a CPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    messages = ("can't allocate memory", "not enough memory", "Cannot allocate memory", "out of memory")
    return isinstance(error, RuntimeError) and any(words in str(error) for words in messages)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return " Did you mean ...?" for the closest known name, or an empty string."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""


def printable(text: str) -> str:
    """Sanitise text for a terminal: replace control characters, except newline and tab, and bidi controls by U+FFFD."""
    return "".join("\ufffd" if is_terminal_control(character) else character for character in text)


def shell_quoted(path: str | Path) -> str:
    """Quote a path as one shell argument that is not taken for a flag."""
    text = path.as_posix() if isinstance(path, Path) else path
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def is_terminal_control(character: str) -> bool:
    """Return whether a character is a control character or a bidi control."""
    kind = unicodedata.category(character)
    return (kind == "Cc" and character not in "\n\t") or unicodedata.bidirectional(character) in BIDI_CONTROLS


BIDI_CONTROLS = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
