"""The console: a stream that may break, and figures as JSON."""

import json
import os
import select
from contextlib import suppress
from pathlib import Path
from typing import Any

from nanotx.errors import ConfigError, RunError
from nanotx.files import write_atomic
from nanotx.runs.folder import RunFolder

CHUNK = 1024
"""Characters written at once: a pipe with room takes as many in UTF-8 without making us wait."""

WRITE_TIMEOUT = 1.0
"""Seconds that a reader who does not read holds us up, once."""


class SafeStream:
    """Writes on to a stream, for as long as somebody takes what is written."""

    def __init__(self, stream: Any) -> None:
        self.stream, self.timeout, self.broken = stream, WRITE_TIMEOUT, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Write as much as is taken; a reader who has left is left alone."""
        try:
            for start in range(0, len(text), CHUNK):
                if self.broken or not self.can_write():
                    break
                self.stream.write(text[start : start + CHUNK])
                self.stream.flush()
        except (OSError, ValueError):
            self.discard()
        return len(text)

    def flush(self) -> None:
        """Nothing waits here."""

    def isatty(self) -> bool:
        """Whether a person may be looking."""
        return not self.broken and self.stream.isatty()

    def can_write(self) -> bool:
        """Whether a piece can be written without waiting, or nobody can tell."""
        try:
            _, can_write, _ = select.select([], [self.stream.fileno()], [], self.timeout)
        except (OSError, ValueError):  # no file of the system's; on Windows, no socket
            return True
        self.timeout = WRITE_TIMEOUT if can_write else 0.0
        return bool(can_write)

    def discard(self) -> None:
        """Write into nothing from now on, so that what is still in the stream harms nobody at the end."""
        self.broken = True
        try:
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, self.stream.fileno())
            os.close(nothing)
        except (OSError, ValueError):
            return


def write_json(path: str, what: dict[str, Any]) -> None:
    """A table as strict JSON.

    Raises:
        ConfigError: a file of a run's own lies there.
        RunError: it cannot be written there.
    """
    check_output(path, "--json")
    try:
        write_atomic(Path(path), json.dumps(what, indent=1, allow_nan=False) + "\n")
    except OSError as error:
        raise RunError(f"--json {path}: cannot be written: {error.strerror}.") from None


def check_output(path: str, flag: str) -> None:
    """Refuse to write a result over what a run keeps in its folder.

    Raises:
        ConfigError: the path names a run's journal, recipe, tokenizer, samples or figures, or a file in `checkpoints`.
    """
    file = Path(path).resolve()
    for parent in file.parents:
        with suppress(OSError, RunError):  # a folder that cannot be looked into, or named, is no run's
            folder = RunFolder(parent)
            if folder.is_run and any(own == file or own in file.parents for own in map(Path.resolve, folder.files)):
                raise ConfigError(
                    f"{flag} {path}: a file of the run in {parent}, and would be overwritten; choose another."
                )
