"""What loggers share: callbacks that send the rows of a run to another program, the sink.

metrics.jsonl is the record of a run, and a sink holds a copy of it. A run that is killed and resumed takes some steps
twice, and metrics.jsonl drops the rows of the first time. So when a process begins, a sink is filled anew from
metrics.jsonl; one that cannot go back is sent what it lacks.

A row is sent when it is complete, after all callbacks have added to it.
"""

import importlib.util
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from nanotx.config.schema import check_min, to_table
from nanotx.errors import ConfigError
from nanotx.training.callbacks.base import Callback
from nanotx.training.loop import TrainingRun
from nanotx.training.trainer import Row


@dataclass(frozen=True, kw_only=True)
class LoggedRun:
    """A run as a sink sees it, in training or over."""

    folder: Path
    recipe: Mapping[str, Any]  # as a table
    rows: Callable[[], Iterable[Row]]  # reads the metrics log so far


@dataclass(kw_only=True)
class Logger(Callback, ABC):
    """Send the steps, evaluations and samples of a run to a sink. A part gives `open_sink`, `send` and `close_sink`."""

    library: ClassVar[str] = ""  # the package that it needs, of the extra `track`

    every: int = 1  # steps between two that are sent; evaluations and samples are all sent

    def __post_init__(self) -> None:
        check_min(self, 1, "every")
        self._pending: list[Row] = []  # rows that later callbacks may still add to
        self._is_open = False

    @abstractmethod
    def open_sink(self, run: LoggedRun) -> None:
        """Open the sink without any row of this run; where it cannot go back, `send` leaves out what it has."""

    @abstractmethod
    def send(self, row: Row) -> None:
        """Send a row."""

    @abstractmethod
    def close_sink(self) -> None:
        """Return when the sink has all rows."""

    def check_library(self) -> None:
        """Raise ConfigError if the package that the logger needs is not installed."""
        if self.library and importlib.util.find_spec(self.library) is None:
            raise ConfigError(
                f"{self.part}: the package {self.library} is not installed; try pip install {self.library}, or train "
                f"without it and send the run later: nanotx log RUN --to {self.part}."
            )

    # A run that is over.

    def send_run(self, run: LoggedRun) -> int:
        """Send all rows of a run; return their number."""
        count = self.begin(run)
        self.close()
        return count

    def begin(self, run: LoggedRun) -> int:
        """Open the sink, and send the rows of the metrics log so far; return their number."""
        self.check_library()
        self._pending.clear()
        self.open_sink(run)
        self._is_open = True
        return sum(self.forward(row) for row in run.rows())

    # A run that trains.

    def on_row(self, run: TrainingRun, row: Row) -> None:
        self.flush()
        if row["event"] in ("start", "resume"):
            self.begin(LoggedRun(folder=run.folder, recipe=to_table(run.recipe), rows=run.rows))
        else:
            self._pending.append(row)

    def after_step(self, run: TrainingRun) -> None:
        self.flush()

    def flush(self) -> None:
        """Send the rows that are complete."""
        rows, self._pending = self._pending, []
        for row in rows:
            self.forward(row)

    def forward(self, row: Row) -> bool:
        """Send a row if it is one for sinks; return whether it is."""
        wanted = row["event"] in ("eval", "sample") or (row["event"] == "step" and row["step"] % self.every == 0)
        if wanted:
            self.send(row)
        return wanted

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            try:
                self.flush()
            finally:
                self.close_sink()


def numbers(row: Row) -> dict[str, int | float]:
    """Return the finite numbers of a row, without its step."""
    return {
        key: value
        for key, value in row.items()
        if key != "step" and isinstance(value, int | float) and math.isfinite(value)
    }
