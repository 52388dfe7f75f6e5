"""A table of steps and evaluations, metrics.csv in the run's folder."""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass

from nanotx.files import write_atomic
from nanotx.training.callbacks.base import Callback
from nanotx.training.callbacks.logger import LoggedRun, Logger, numbers
from nanotx.training.trainer import Row


@Callback.register("csv")
@dataclass(kw_only=True)
class Csv(Logger):
    """Write the numbers of steps and evaluations to metrics.csv; a cell is empty where a row has no such number."""

    def open_sink(self, run: LoggedRun) -> None:
        self.path = run.folder / "metrics.csv"
        self.columns = ["event", "step"]
        self.rewrite([])

    def rewrite(self, rows: Iterable[list[str]]) -> None:
        """Write the file anew with all columns so far; the cells that older rows lack are empty."""
        padded = [[*row, *[""] * (len(self.columns) - len(row))] for row in rows]
        write_atomic(self.path, lines([self.columns, *padded]))
        self.file = self.path.open("a", encoding="utf-8", newline="")

    def send(self, row: Row) -> None:
        if row["event"] == "sample":
            return
        figures = numbers(row)
        if new := [key for key in figures if key not in self.columns]:
            self.file.close()
            self.columns += new
            with self.path.open(encoding="utf-8", newline="") as old:
                self.rewrite([*csv.reader(old)][1:])
        cells = {**figures, "event": row["event"], "step": row["step"]}
        self.file.write(lines([[cells.get(name, "") for name in self.columns]]))
        self.file.flush()

    def close_sink(self) -> None:
        self.file.close()


def lines(rows: Iterable[Iterable[object]]) -> str:
    """Return rows as lines of CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
