"""The metrics log: metrics.jsonl, a row per line, in strict JSON."""

import json
import math
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from nanotx.config.schema import INT_LIMIT
from nanotx.errors import RunError
from nanotx.files import CHECKED_SIZE, open_regular, read_regular, unused_path, write_atomic
from nanotx.hardware.cgroup import memory_info

Row = dict[str, Any]

LONGEST = 1 << 26
"""Maximal size of a line in bytes; the longest rows hold a sample."""

SPREAD = 6
"""Minimal bytes of memory per byte of a log that is read as rows."""

COUNTED = ("step", "steps", "tokens_per_step")
"""Keys whose numbers are not negative."""

EVAL_EVENTS = ("eval", "sample")
Number = int | float | None
FIELDS: dict[str, dict[str, Any]] = {
    "start": {"steps": int, "tokens_per_step": int, "title": str, "floor": Number},
    "step": {"loss": Number, "grad_norm": Number, "lr": Number, "tokens_per_second": int | float},
    "eval": {"train_loss": Number, "val_loss": Number, "bits_per_byte": Number},
    "sample": {"text": str},
    "warning": {"text": str},
    "checkpoint": {},
    "changed": {"recipe_sha256": str, "changes": dict},
    "end": {},
}
FIELDS["resume"] = FIELDS["start"]


class MetricsLog:
    """An open metrics log; `write` appends a row at once."""

    def __init__(self, path: Path, step: int, eval_pending: bool = False) -> None:
        """Open the file, and remove the rows of steps after `step` and an incomplete last line.

        Other lines that are not rows are removed too; the file with them is copied aside first.

        Args:
            path: the file.
            step: the last step to keep.
            eval_pending: whether the evaluation and the sample of this step are repeated, so that their rows go.
        """
        rows, damaged = read_all(path)
        valid_lines = [
            json.dumps(row) + "\n"
            for row in rows
            if row["step"] <= step and not (eval_pending and row["step"] == step and row["event"] in EVAL_EVENTS)
        ]
        self.path = path
        self.lock = threading.RLock()
        """Held by who writes, and by who needs the file as it is."""
        self._pending: list[str] = []  # rows not yet written
        self.notes: list[str] = []
        """Messages for the user about the state of the file."""
        if damaged:
            aside = copy_aside(path)
            lines = f"line{'s' * (len(damaged) > 1)} {', '.join(map(str, damaged[:9]))}{', ...' * (len(damaged) > 9)}"
            self.notes.append(f"{path}: {lines} cannot be read and are removed; the old file is {aside}.")
        last = max((row["step"] for row in rows if row["event"] == "step"), default=0)
        if last < step:
            self.notes.append(
                f"{path}: {f'ends at step {last}' if rows else 'missing or empty'}, and the checkpoint is of step "
                f"{step}: the rows between are lost."
            )
        self._open("".join(valid_lines))

    def _open(self, content: str | bytes) -> None:
        write_atomic(self.path, content)
        self._file = self.path.open("a+b", buffering=0)
        self._size = os.fstat(self._file.fileno()).st_size

    def restore(self) -> str:
        """Write the file again if it was deleted or replaced since it was opened; return a message about it, or "".

        A file in its place is copied aside first. If the disk refuses, the next row tries again.
        """
        try:
            with self.lock:
                return self._restore()
        except OSError:
            return ""

    def _restore(self) -> str:
        open_file = os.fstat(self._file.fileno())
        if open_file.st_size < self._size:
            lost, self._size = self._size - open_file.st_size, open_file.st_size
            return f"{self.path}: cut while the run was training; {lost:,} bytes of rows are lost."
        try:
            status = self.path.stat()
        except FileNotFoundError:
            if not self.path.parent.is_dir():
                return ""  # the run's folder is gone, and the next checkpoint reports that
            event = "deleted while the run was training"
        else:
            if (status.st_dev, status.st_ino) == (open_file.st_dev, open_file.st_ino):
                return ""
            aside = copy_aside(self.path)
            event = f"replaced while the run was training, by a file that is now {aside}"
        old = self._file
        old.seek(0)
        self._open(old.read())
        old.close()
        return f"{self.path}: {event}; its rows are written again."

    def write(self, row: Row) -> OSError | None:
        """Append a row; non-finite numbers become null and are listed under `nonfinite`.

        If it cannot be written, return the error; the row is kept and written before the next one.
        """
        nonfinite = [key for key, value in row.items() if isinstance(value, float) and not math.isfinite(value)]
        if nonfinite:
            row = row | dict.fromkeys(nonfinite) | {"nonfinite": nonfinite}
        line = json.dumps(row, allow_nan=False) + "\n"
        with self.lock:
            self._pending.append(line)
            return self.flush()

    def flush(self) -> OSError | None:
        """Write all pending rows; return the error if they cannot be written."""
        data = memoryview("".join(self._pending).encode("ascii"))
        try:
            written = 0
            while written < len(data):
                written += self._file.write(data[written:]) or 0
        except OSError as error:
            with suppress(OSError):
                self._file.truncate(self._size)  # remove a partly written row
            return error
        self._pending.clear()
        self._size += len(data)
        return None

    def sync(self) -> None:
        """Flush the written rows to the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read(path: Path) -> Iterator[Row]:
    """Yield the rows of a metrics log; lines that are not rows are skipped."""
    for line in lines_of(path):
        if (row := row_of(line)) is not None:
            yield row


def read_all(path: Path) -> tuple[list[Row], list[int]]:
    """Return the rows of a metrics log, and the numbers of the other lines, except an incomplete last one."""
    rows, damaged = list[Row](), list[int]()
    for number, line in enumerate(lines_of(path), start=1):
        row = row_of(line)
        if row is not None:
            rows.append(row)
        elif line.endswith("\n"):
            damaged.append(number)
    return rows, damaged


def lines_of(path: Path) -> Iterator[str]:
    """Yield the lines of a metrics log with their newlines; no line if the file is missing.

    A line longer than any row becomes an empty one, so that it is not held in memory. Lines appended meanwhile are not
    read, so that reading ends.

    Raises:
        RunError: it cannot be read, is not a regular file, or needs more memory than is available.
    """
    try:
        stream = open_regular(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}.") from None
    with stream:
        left = os.fstat(stream.fileno()).st_size
        check_rows(path, left)
        try:
            while left > 0 and (line := stream.readline(min(left, LONGEST))):
                left -= len(line)
                if len(line) < LONGEST or line.endswith(b"\n"):
                    yield line.decode("utf-8", "replace")
                    continue
                while left > 0 and not line.endswith(b"\n") and (line := stream.readline(min(left, LONGEST))):
                    left -= len(line)
                yield "\n"
        except OSError as error:
            raise RunError(f"{path}: cannot be read: {error.strerror}.") from None


def check_rows(path: Path, size: int) -> None:
    """Raise RunError if the rows of a log of this size need more memory than is available."""
    memory = memory_info() if size > CHECKED_SIZE else None
    if memory is not None and size * SPREAD > memory.available:
        raise RunError(
            f"{path}: {size:,} bytes, whose rows need at least {size * SPREAD:,} bytes of memory; "
            f"{memory.available:,} are available. Try a machine with more memory."
        )


def row_of(line: str) -> Row | None:
    """Return the row of a line; None if it is incomplete or not strict JSON."""
    try:
        row = json.loads(line, parse_constant=no_number)
    except (ValueError, RecursionError):
        return None
    return row if line.endswith("\n") and sound(row) else None


def no_number(word: str) -> float:
    """Raise ValueError for NaN, Infinity or -Infinity, which strict JSON does not have."""
    raise ValueError(f"{word} is not a number of JSON")


def copy_aside(path: Path) -> Path:
    """Copy a file to the first unused name `<path>-<n>`, flush it, and return that path."""
    aside = unused_path(path)
    write_atomic(aside, read_regular(path))
    return aside


def sound(row: Any) -> bool:
    """Return whether a row has the keys of its event, with values of the right types; non-finite numbers are null."""
    if not isinstance(row, dict) or not isinstance(row.get("event"), str) or row["event"] not in FIELDS:
        return False
    wanted = FIELDS[row["event"]] | {"step": int}
    return all(
        key in row and isinstance(row[key], kind) and not isinstance(row[key], bool) for key, kind in wanted.items()
    ) and all(
        in_bounds(item, counted=key in COUNTED and key in wanted)
        for key, item in row.items()
        if isinstance(item, int | float)
    )


def in_bounds(number: int | float, counted: bool) -> bool:
    """Return whether a number is finite, fits 64 bits if it is an integer, and is not negative if it counts steps."""
    if isinstance(number, float):
        return math.isfinite(number)
    return -INT_LIMIT < number < INT_LIMIT and (number >= 0 or not counted)
