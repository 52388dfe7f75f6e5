"""metrics.jsonl: what happened, a row a line, in strict JSON."""

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nanotx.files import publish

Row = dict[str, Any]

LOOKS = ("eval", "sample")
Number = int | float | None
FIELDS: dict[str, dict[str, Any]] = {
    "start": {"steps": int, "tokens_per_step": int, "title": str, "floor": Number},
    "step": {"loss": Number, "grad_norm": Number, "lr": Number, "tokens_per_second": int | float},
    "eval": {"train_loss": Number, "val_loss": Number, "bits_per_byte": Number},
    "sample": {"text": str},
    "warning": {"text": str},
    "end": {},
}
FIELDS["resume"] = FIELDS["start"]


class Journal:
    """A file that rows are appended to; each is on its way to the disk when `write` returns."""

    def __init__(self, path: Path, step: int, owed: bool = False) -> None:
        """Open the file; what is said of steps after `step`, and a last line that was torn, are cut away.

        Args:
            path: where it lies.
            step: the last one that stays.
            owed: whether the looks at this step are to be taken again.
        """
        kept = [
            json.dumps(row) + "\n"
            for row in read(path)
            if row["step"] <= step and not (owed and row["step"] == step and row["event"] in LOOKS)
        ]
        publish(path, "".join(kept))
        self._stream = path.open("a", encoding="utf-8", newline="\n")

    def write(self, row: Row) -> None:
        """Append a row; numbers that are not finite become null and are named under `nonfinite`."""
        wild = [key for key, value in row.items() if isinstance(value, float) and not math.isfinite(value)]
        if wild:
            row = row | dict.fromkeys(wild) | {"nonfinite": wild}
        self._stream.write(json.dumps(row, allow_nan=False) + "\n")
        self._stream.flush()

    def sync(self) -> None:
        """Return when all rows are on the disk."""
        os.fsync(self._stream.fileno())

    def close(self) -> None:
        """Write nothing more."""
        self._stream.close()


def read(path: Path) -> Iterator[Row]:
    """The rows of a journal, up to the first line that is not whole."""
    if not path.exists():
        return
    with path.open(encoding="utf-8", newline="\n", errors="replace") as lines:
        for line in lines:
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                return
            if not (line.endswith("\n") and sound(row)):
                return
            yield row


def sound(row: Any) -> bool:
    """Whether a row holds what its readers rely on, each of its kind; numbers that were not finite are null."""
    if not isinstance(row, dict) or not isinstance(row.get("event"), str) or row["event"] not in FIELDS:
        return False
    wanted = FIELDS[row["event"]] | {"step": int}
    return all(
        key in row and isinstance(row[key], kind) and not isinstance(row[key], bool) for key, kind in wanted.items()
    )
