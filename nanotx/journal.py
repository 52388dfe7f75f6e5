"""metrics.jsonl: what happened, a row a line, in strict JSON."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nanotx.files import publish

Row = dict[str, Any]


class Journal:
    """A file that rows are appended to; each is on its way to the disk when `write` returns."""

    def __init__(self, path: Path, step: int) -> None:
        """Open the file; rows of steps after `step`, and a last line that was torn, are cut away."""
        kept = [json.dumps(row) + "\n" for row in read(path) if row.get("step", 0) <= step]
        publish(path, "".join(kept))
        self._stream = path.open("a", encoding="utf-8", newline="\n")

    def write(self, row: Row) -> None:
        """Append a row; numbers that are not finite become null and are named under `nonfinite`."""
        wild = [key for key, value in row.items() if isinstance(value, float) and not math.isfinite(value)]
        if wild:
            row = row | dict.fromkeys(wild) | {"nonfinite": wild}
        self._stream.write(json.dumps(row, allow_nan=False) + "\n")
        self._stream.flush()

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
            except ValueError:
                return
            if line.endswith("\n") and isinstance(row, dict):
                yield row
