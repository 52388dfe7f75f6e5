"""The console: a stream that survives a broken pipe, and JSON output."""

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
"""Characters per write: as UTF-8 they fit into the free space of a pipe, so the write does not block."""

WRITE_TIMEOUT = 1.0
"""Seconds to wait, once, for a reader that does not read."""


class SafeStream:
    """Stream that drops what is written once its reader has closed the pipe or stopped reading."""

    def __init__(self, stream: Any) -> None:
        self.stream, self.timeout, self.broken = stream, WRITE_TIMEOUT, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Write the text, or as much as the reader takes; never raise for a broken pipe."""
        try:
            for start in range(0, len(text), CHUNK):
                if self.broken or not self.can_write():
                    break
                self.stream.write(self.encodable(text[start : start + CHUNK]))
                self.stream.flush()
        except (OSError, ValueError):
            self.discard()
        return len(text)

    def encodable(self, text: str) -> str:
        """Return the text with a question mark for each character that the stream cannot encode."""
        encoding = getattr(self.stream, "encoding", None) or "utf-8"
        return text.encode(encoding, "replace").decode(encoding)

    def flush(self) -> None:
        """Do nothing: `write` has flushed."""

    def isatty(self) -> bool:
        """Return whether the stream is a terminal that still accepts output."""
        return not self.broken and self.stream.isatty()

    def can_write(self) -> bool:
        """Return whether a chunk can be written without blocking; True where that is unknown."""
        try:
            _, can_write, _ = select.select([], [self.stream.fileno()], [], self.timeout)
        except (OSError, ValueError):  # no file descriptor; on Windows, no socket
            return True
        self.timeout = WRITE_TIMEOUT if can_write else 0.0
        return bool(can_write)

    def discard(self) -> None:
        """Redirect the stream to the null device, so that flushing it at exit does not fail."""
        self.broken = True
        try:
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, self.stream.fileno())
            os.close(nothing)
        except (OSError, ValueError):
            return


def write_json(path: str, what: dict[str, Any]) -> None:
    """Write a table as strict JSON.

    Raises:
        ConfigError: the path is a file of a run.
        RunError: the file cannot be written.
    """
    write_text(path, json.dumps(what, indent=1, allow_nan=False) + "\n", "--json")


def write_text(path: str, text: str, flag: str) -> None:
    """Write a text to the path that a flag names.

    Raises:
        ConfigError: the path is a file of a run.
        RunError: the file cannot be written.
    """
    check_output(path, flag)
    try:
        write_atomic(Path(path), text)
    except OSError as error:
        raise RunError(f"{flag} {path}: cannot be written: {error.strerror}.") from None


def check_output(path: str, flag: str) -> None:
    """Refuse an output path that is a file of a run.

    Raises:
        ConfigError: the path is a run's metrics log, recipe, tokenizer, samples or summary, or in `checkpoints`.
    """
    file = Path(path).resolve()
    for parent in file.parents:
        with suppress(OSError, RunError):  # a folder that cannot be read is not a run
            folder = RunFolder(parent)
            if folder.is_run and any(own == file or own in file.parents for own in map(Path.resolve, folder.files)):
                raise ConfigError(
                    f"{flag} {path}: a file of the run in {parent}, and would be overwritten; choose another."
                )
