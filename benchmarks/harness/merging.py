"""Results of several runs as one: what was measured on this machine and on others, side by side."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.reporting import Row
from nanotx.errors import RunError


def read_json(path: str) -> tuple[list[Row], list[Row]]:
    """The machines and the rows of a file that a benchmark wrote.

    Raises:
        RunError: it cannot be read, or holds something else.
    """
    try:
        answer = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"--merge {path}: cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise RunError(f"--merge {path}: this is not JSON: {error}.") from None
    if not isinstance(answer, dict) or not {"machine", "rows"} <= answer.keys():
        raise RunError(f"--merge {path}: expected what a benchmark wrote by --json, with a machine and rows.")
    machines = answer.get("machines", [answer["machine"]])
    return machines, [{"machine": 0} | row for row in answer["rows"]]


def merge(paths: Sequence[str]) -> tuple[list[Row], list[Row]]:
    """All machines, each once, and all rows, which say by its number on which machine they were measured."""
    machines, rows = list[Any](), list[Row]()
    for path in paths:
        theirs, found = read_json(path)
        for one in theirs:
            if one not in machines:
                machines.append(one)
        rows += [row | {"machine": machines.index(theirs[row["machine"]])} for row in found]
    return machines, rows
