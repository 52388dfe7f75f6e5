"""A run's journal: every line whole, every step there, in order."""

from pathlib import Path

from nanotx.errors import RunError
from nanotx.folder import RunFolder
from nanotx.journal import Row, lines_of, row_of
from nanotx.verbs.verify._check import Check, attempt


def of_journal(folder: RunFolder, newest: int) -> Check:
    """Whether the journal reads, its steps follow one another, and it goes as far as the newest checkpoint's step."""

    def read() -> str:
        rows, torn = rows_of(folder.metrics)
        last = in_order(folder.metrics, rows)
        if last < newest:
            raise RunError(f"{folder.metrics}: it ends at step {last}, and there is a checkpoint of step {newest}.")
        evaluations = sum(row["event"] == "eval" for row in rows)
        told = f"{len(rows):,} rows in order: {last:,} steps, {evaluations:,} evaluations"
        return f"{told}; its last line is torn, and --resume cuts it away" if torn else told

    return attempt("metrics.jsonl", read)


def rows_of(path: Path) -> tuple[list[Row], bool]:
    """The rows of a journal, and whether its last line is torn.

    Raises:
        RunError: it cannot be read, or a line before the last is no row.
    """
    if not path.exists():
        raise RunError(f"{path}: cannot be read: No such file or directory.")
    rows = [row_of(line) for line in lines_of(path)]
    torn = bool(rows) and rows[-1] is None
    for number, row in enumerate(rows[: len(rows) - torn], start=1):
        if row is None:
            raise RunError(
                f"{path}: line {number} of {len(rows)} is no row; --resume leaves it out and sets a copy aside."
            )
    return [row for row in rows if row is not None], torn


def in_order(path: Path, rows: list[Row]) -> int:
    """The last step; each step stands behind the one before it, and what happened at a step behind its row.

    Raises:
        RunError: a step is missing, or a row stands elsewhere; says where.
    """
    last = 0
    for number, row in enumerate(rows, start=1):
        wanted = last + 1 if row["event"] == "step" else last
        if row["step"] != wanted:
            raise RunError(
                f"{path}: line {number}: expected {row['event']!r} of step {wanted}, got that of step {row['step']!r}."
            )
        last = wanted
    return last
