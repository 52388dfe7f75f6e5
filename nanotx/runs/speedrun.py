"""Records of speedruns: how a run compares with the published results and with the last record.

A record is three runs or more of one recipe on one kind of machine, each of another seed, all of which reached the
target; its time is their median. One lucky seed is not a record.
"""

import hashlib
import json
import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from nanotx.errors import DataError, RunError
from nanotx.files import read_regular
from nanotx.training.callbacks.base import Callback
from nanotx.training.loop import TrainingRun
from nanotx.training.trainer import Row

SEEDS = 3
PUBLISHED = (1.4697, 180.0, "nanoGPT's baby GPT on one A100")
"""Validation loss, seconds of training, and the run that reached it.

Source: https://github.com/karpathy/nanoGPT, its README."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """Runs of one recipe on one machine, all of which reached the target."""

    seconds: float  # from the start of the process to the evaluation that showed it; the median
    seeds: int
    runs: tuple[Row, ...]

    def loss_at(self, seconds: float) -> float | None:
        """Return the validation loss that the fastest of its runs had shown by then; None before its first."""
        fastest = min(self.runs, key=lambda run: run["seconds"])
        return next((loss for at, loss in reversed(fastest["curve"]) if at <= seconds), None)


class Timer(Callback):
    """Compares each evaluation of a run with the target and with the record, and keeps the result."""

    def __init__(self, target: float, record: Record | None) -> None:
        self.target, self.record = target, record
        self.curve: list[tuple[float, float]] = []

    def on_eval(self, run: TrainingRun, row: Row) -> None:
        run.note(self.compare(row))

    def compare(self, row: Row) -> str:
        """Return a line that compares an evaluation with the target and with the record."""
        seconds, loss = row["wall_seconds"], row["val_loss"]
        if math.isfinite(loss):
            self.curve.append((seconds, loss))
        line = f"{seconds:.1f} s: {loss:.4f}, {loss - self.target:+.4f} from {self.target:g}"
        if self.target == PUBLISHED[0]:
            line += f" ({PUBLISHED[2]}: {PUBLISHED[1]:.0f} s)"
        if self.record:
            then = self.record.loss_at(seconds)
            line += f"; the record was at {then:.4f}" if then is not None else "; the record had no evaluation yet"
        return line

    @property
    def seconds(self) -> float | None:
        """When the target was reached, from the start of the process; None for never."""
        return next((seconds for seconds, loss in self.curve if loss <= self.target), None)

    def outcome(self, figures: Mapping[str, Any], recipe: Mapping[str, Any], machine: Mapping[str, Any]) -> Row:
        """Return the row for the file of records."""
        plain = {key: value for key, value in recipe.items() if key != "seed"}
        return {
            "target": self.target,
            "reached": self.seconds is not None,
            "seconds": self.seconds,
            **{key: figures[key] for key in ("val_loss", "best_val_loss", "wall_seconds", "train_seconds", "steps")},
            **{key: figures[key] for key in ("parameters", "tokens", "tokens_per_second", "seed")},
            **{key: figures[key] for key in ("device", "dtype", "threads", "compiled", "versions")},
            "machine": dict(machine),
            "curve": [list(point) for point in self.curve],
            "recipe_sha256": hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest(),
            "recipe": dict(recipe),
        }


def best(runs: Iterable[Row], target: float, machine: Mapping[str, Any]) -> Record | None:
    """Return the fastest record to a target on a machine; None if there is none."""

    def kind(run: Row) -> str:
        return str(run["recipe_sha256"])

    here = sorted((run for run in runs if run["target"] == target and run["machine"] == machine), key=kind)
    records = []
    for _, group in groupby(here, kind):
        by_seed = {run["seed"]: run for run in group}
        if len(by_seed) >= SEEDS and all(run["reached"] for run in by_seed.values()):
            seconds = statistics.median(run["seconds"] for run in by_seed.values())
            records.append(Record(seconds=seconds, seeds=len(by_seed), runs=tuple(by_seed.values())))
    return min(records, key=lambda record: record.seconds, default=None)


def read_runs(path: Path) -> list[Row]:
    """Return the runs in a file of records; none if there is no such file.

    Raises:
        DataError: a line is not a run; says which.
    """
    runs: list[Row] = []
    if not path.exists():
        return runs
    try:
        lines = read_regular(path).splitlines()
    except OSError as error:
        raise DataError(f"--records {path}: cannot be read: {error.strerror}.") from None
    for number, line in enumerate(lines, start=1):
        try:
            run = json.loads(line)
            _ = [run[key] for key in ("target", "reached", "seconds", "seed", "curve", "machine", "recipe_sha256")]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise DataError(f"--records {path}: line {number} is not a run of a speedrun.") from None
        runs.append(run)
    return runs


def append_run(path: Path, run: Row) -> None:
    """Append a run to a file of records.

    Raises:
        RunError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps(run, allow_nan=False) + "\n")
    except OSError as error:
        raise RunError(f"--records {path}: cannot be written: {error.strerror}.") from None
