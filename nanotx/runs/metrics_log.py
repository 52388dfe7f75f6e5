"""metrics.jsonl: what happened, a row a line, in strict JSON."""

import json
import math
import os
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
"""Bytes of a line; the longest rows hold a sample."""

SPREAD = 6
"""Bytes of memory that a byte of a journal takes as rows, at least."""

COUNTED = ("step", "steps", "tokens_per_step")
"""Numbers of a row that are not below zero."""

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


class Journal:
    """A file that rows are appended to; each is on its way to the disk when `write` returns."""

    def __init__(self, path: Path, step: int, eval_pending: bool = False) -> None:
        """Open the file; what is said of steps after `step`, and a last line that was torn, are cut away.

        Lines in its middle that are no rows are left out, and the file with them is set aside first.

        Args:
            path: of the file.
            step: the last one that stays.
            eval_pending: whether the looks at this step are to be taken again.
        """
        rows, damaged = read_all(path)
        kept = [
            json.dumps(row) + "\n"
            for row in rows
            if row["step"] <= step and not (eval_pending and row["step"] == step and row["event"] in EVAL_EVENTS)
        ]
        self.path = path
        self._pending: list[str] = []  # rows that are still to be written
        self.notes: list[str] = []
        """What the user should know of the file as it was found."""
        if damaged:
            aside = copy_aside(path)
            lines = f"line{'s' * (len(damaged) > 1)} {', '.join(map(str, damaged[:9]))}{', ...' * (len(damaged) > 9)}"
            self.notes.append(f"{path}: {lines} cannot be read; all other rows are kept, and {aside} is the old file.")
        last = max((row["step"] for row in rows if row["event"] == "step"), default=0)
        if last < step:
            self.notes.append(
                f"{path}: {f'ends at step {last}' if rows else 'missing or empty'}, and the checkpoint is of step "
                f"{step}: the rows between are lost."
            )
        self._open("".join(kept))

    def _open(self, content: str | bytes) -> None:
        write_atomic(self.path, content)
        self._file = self.path.open("a+b", buffering=0)
        self._size = os.fstat(self._file.fileno()).st_size

    def restore(self) -> str:
        """Write the file again where it was deleted or replaced since it was opened; what to say of that, or nothing.

        Another file in its place is set aside first. Where the disk refuses, it is tried again at the next row.
        """
        try:
            return self._restore()
        except OSError:
            return ""

    def _restore(self) -> str:
        open_file = os.fstat(self._file.fileno())
        if open_file.st_size < self._size:
            lost, self._size = self._size - open_file.st_size, open_file.st_size
            return f"{self.path}: cut while the run was training; {lost:,} bytes of rows are lost."
        try:
            found = self.path.stat()
        except FileNotFoundError:
            if not self.path.parent.is_dir():
                return ""  # the run's folder is gone, and the next checkpoint reports that
            said = "deleted while the run was training"
        else:
            if (found.st_dev, found.st_ino) == (open_file.st_dev, open_file.st_ino):
                return ""
            aside = copy_aside(self.path)
            said = f"replaced while the run was training, by a file that is now {aside}"
        old = self._file
        old.seek(0)
        self._open(old.read())
        old.close()
        return f"{self.path}: {said}; its rows are written again."

    def write(self, row: Row) -> OSError | None:
        """Append a row; numbers that are not finite become null and are named under `nonfinite`.

        Returns why it cannot be written, if it cannot; it is then kept, and written before the next one.
        """
        nonfinite = [key for key, value in row.items() if isinstance(value, float) and not math.isfinite(value)]
        if nonfinite:
            row = row | dict.fromkeys(nonfinite) | {"nonfinite": nonfinite}
        self._pending.append(json.dumps(row, allow_nan=False) + "\n")
        return self.flush()

    def flush(self) -> OSError | None:
        """Write all rows that are kept; returns why they cannot be written, if they cannot."""
        data = memoryview("".join(self._pending).encode("ascii"))
        try:
            written = 0
            while written < len(data):
                written += self._file.write(data[written:]) or 0
        except OSError as error:
            with suppress(OSError):
                self._file.truncate(self._size)  # no half of a row is left
            return error
        self._pending.clear()
        self._size += len(data)
        return None

    def sync(self) -> None:
        """Return when all rows that could be written are on the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Write nothing more."""
        self._file.close()


def read(path: Path) -> Iterator[Row]:
    """The rows of a journal; lines that are no rows are passed over."""
    for line in lines_of(path):
        if (row := row_of(line)) is not None:
            yield row


def read_all(path: Path) -> tuple[list[Row], list[int]]:
    """The rows of a journal, and the numbers of the lines that are no rows, but for a last one that was torn."""
    rows, damaged = list[Row](), list[int]()
    for number, line in enumerate(lines_of(path), start=1):
        row = row_of(line)
        if row is not None:
            rows.append(row)
        elif line.endswith("\n"):
            damaged.append(number)
    return rows, damaged


def lines_of(path: Path) -> Iterator[str]:
    """The lines of a journal, with their ends; none where there is no file.

    A line that is longer than any row counts as an empty one: it is of no use, and not held in memory. What is
    appended meanwhile is left for another time, so that reading ends.

    Raises:
        RunError: it cannot be read, is no plain file, or holds more rows than there is memory for.
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
    """Raise RunError where the rows of a journal of so many bytes would surely fill the memory."""
    found = memory_info() if size > CHECKED_SIZE else None
    if found is not None and size * SPREAD > found.available:
        raise RunError(
            f"{path}: {size:,} bytes, whose rows take {size * SPREAD:,} bytes of memory or more, and "
            f"{found.available:,} are free; try a machine with more memory."
        )


def row_of(line: str) -> Row | None:
    """Return the row of a line; None if it is torn, or holds a number that JSON does not have."""
    try:
        row = json.loads(line, parse_constant=no_number)
    except (ValueError, RecursionError):
        return None
    return row if line.endswith("\n") and sound(row) else None


def no_number(word: str) -> float:
    """Raise ValueError for NaN, Infinity or -Infinity, which strict JSON does not have."""
    raise ValueError(f"{word} is no number of JSON")


def copy_aside(path: Path) -> Path:
    """Copy a file to the first free name `<path>-<n>` beside it, flushed; returns that."""
    aside = unused_path(path)
    write_atomic(aside, read_regular(path))
    return aside


def sound(row: Any) -> bool:
    """Whether a row holds what its readers rely on, each of its kind; numbers that were not finite are null."""
    if not isinstance(row, dict) or not isinstance(row.get("event"), str) or row["event"] not in FIELDS:
        return False
    wanted = FIELDS[row["event"]] | {"step": int}
    return all(
        key in row and isinstance(row[key], kind) and not isinstance(row[key], bool) for key, kind in wanted.items()
    ) and all(in_bounds(key, item) for key, item in row.items() if isinstance(item, int | float))


def in_bounds(key: str, number: int | float) -> bool:
    """Whether a number of a row is one that a run may have: finite, of 64 bits if it is whole, no step below zero."""
    if isinstance(number, float):
        return math.isfinite(number)
    return -INT_LIMIT < number < INT_LIMIT and (number >= 0 or key not in COUNTED)
