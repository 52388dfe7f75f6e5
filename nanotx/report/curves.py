"""The curves of a run, thinned so that the extremes stay: what its metrics log says, in a size that fits a page.

Steps are gathered in buckets of equal numbers of steps. Of each bucket its least and its greatest value are kept, so
that no spike is lost, and a mean over a window of steps around its last one.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanotx.runs.history import EVAL_KEYS
from nanotx.runs.metrics_log import Row, read

Numbers = NDArray[np.float64]
Places = NDArray[np.integer[Any]]

NO_METRICS = {"event", "step", "nonfinite"}
"""Keys of a step's row that are no metrics."""

MOST_NUMBERS = 60_000
"""Numbers of all thinned curves of a page, about seven bytes each."""

BUCKETS = (60, 500)
"""The fewest and the most buckets of a curve."""

MOST_EVENTS = 200
"""The most events of a kind on a page."""


@dataclass(kw_only=True)
class Log:
    """What a metrics log says, by kind of row."""

    title: str = ""
    steps: int = 0  # that the run is to take
    floor: float | None = None  # bits per byte
    recipe: str = ""  # the recipe that the run began with, by its name; empty where it had none
    recipe_differs: dict[str, Any] = field(default_factory=dict)  # its values of the fields that the run has otherwise
    step: list[int] = field(default_factory=list)  # of each row of a step
    tokens: list[int] = field(default_factory=list)  # that this step learned from
    metrics: dict[str, dict[int, float]] = field(default_factory=dict)  # by name: values by the place of the row
    texts: dict[str, str] = field(default_factory=dict)  # newest values of metrics that are texts
    evals: list[Row] = field(default_factory=list)
    samples: list[Row] = field(default_factory=list)
    events: list[Row] = field(default_factory=list)  # warnings, resumes, changes, steps that are not finite
    complete: bool = False  # whether the last row says so
    last: int = 0  # the newest step


def read_log(path: Path) -> Log:
    """Return what a metrics log says; lines that are no rows, and steps out of order, are left out.

    Raises:
        RunError: the file cannot be read.
    """
    log, tokens_per_step = Log(), 0
    for row in read(path):
        event = row["event"]
        log.last = max(log.last, row["step"])
        log.complete = event == "end" and row.get("complete") is True
        if event in ("start", "resume"):
            log.title, log.steps, log.floor = row["title"], row["steps"], row["floor"]
            tokens_per_step = row["tokens_per_step"]
        if event == "start" and isinstance(row.get("recipe_differs"), dict):
            log.recipe, log.recipe_differs = str(row.get("recipe", "")), dict(row["recipe_differs"])
        if event == "changed" and isinstance(row.get("changes"), dict):
            was = {key: pair[0] for key, pair in row["changes"].items() if isinstance(pair, list) and pair}
            log.recipe_differs = was | log.recipe_differs
        if event == "step" and (not log.step or row["step"] > log.step[-1]):
            add_step(log, row, tokens_per_step)
        elif event == "eval" and (not log.evals or row["step"] > log.evals[-1]["step"]):
            log.evals.append(row)
        elif event == "sample":
            log.samples.append(row)
        elif event in ("warning", "resume", "changed"):
            log.events.append(row)
    return log


def add_step(log: Log, row: Row, tokens: int) -> None:
    """Add the row of a step."""
    place = len(log.step)
    log.step.append(row["step"])
    log.tokens.append(tokens)
    for key, value in row.items():
        if key in NO_METRICS or isinstance(value, list | dict | bool):
            continue
        if isinstance(value, str):
            log.texts[key] = value
        else:
            log.metrics.setdefault(key, {})[place] = math.nan if value is None else float(value)
    if lost := row.get("nonfinite"):
        text = f"not finite: {', '.join(map(str, lost if isinstance(lost, list) else [lost]))}"
        log.events.append({"event": "nonfinite", "step": row["step"], "text": text[:200]})


@dataclass(frozen=True, kw_only=True)
class Clock:
    """How many tokens and seconds of training had passed at each step."""

    step: NDArray[np.float64]
    tokens: NDArray[np.float64]
    seconds: NDArray[np.float64]

    def at(self, steps: list[int]) -> dict[str, list[float]]:
        """Return the x values of some steps."""
        return {
            "step": [float(step) for step in steps],
            "tokens": [float(value) for value in np.interp(steps, self.step, self.tokens)],
            "seconds": [rounded(float(value)) for value in np.interp(steps, self.step, self.seconds)],
        }


def clock_of(log: Log) -> Clock:
    """Return the clock of a run: steps that are not in the log took no tokens and no time that is known."""
    tokens = np.array(log.tokens, dtype=float)
    speed = np.zeros(len(tokens))
    for place, value in log.metrics.get("tokens_per_second", {}).items():
        speed[place] = value if value > 0 else 0.0
    seconds = np.divide(tokens, speed, out=np.zeros_like(tokens), where=speed > 0)
    if log.step:
        # Rows before the first one of the log were lost; their tokens are known.
        tokens[0] *= log.step[0]
    start = np.zeros(1)
    return Clock(
        step=np.concatenate([start, np.array(log.step, dtype=float)]),
        tokens=np.concatenate([start, np.cumsum(tokens)]),
        seconds=np.concatenate([start, np.cumsum(seconds)]),
    )


@dataclass(frozen=True, kw_only=True)
class Thinned:
    """A curve in buckets."""

    steps: list[int]  # the last step of each bucket
    mean: list[float | None]  # over a window around it; None where nothing is finite
    low: list[float | None]  # of the bucket
    high: list[float | None]
    window: int  # rows over which the mean is taken

    @property
    def exact(self) -> bool:
        """Return whether each bucket is one value, so that there is nothing beside the mean."""
        return self.low == self.high == self.mean


def thin(steps: list[int], values: list[float], buckets: int, smooth: bool = True) -> Thinned:
    """Return a curve in at most so many buckets of equal numbers of values, with the extremes of each.

    Args:
        steps: ascending.
        values: one for each; NaN where it was not finite.
        buckets: the most buckets.
        smooth: take the mean over a hundredth of the run at least, not over the bucket alone.
    """
    count = len(values)
    edges = np.unique(np.linspace(0, count, min(buckets, count) + 1).round().astype(int))
    x, starts = np.array(values, dtype=float), edges[:-1]
    size = max(1, -(-count // max(1, len(starts))))
    window = max(size, round(count / 100)) if smooth else size
    low, high = np.fmin.reduceat(x, starts), np.fmax.reduceat(x, starts)
    mean = window_means(x, edges, window)
    return Thinned(
        steps=[steps[edge - 1] for edge in edges[1:]],
        mean=plain(np.where(np.isnan(low), np.nan, mean)),
        low=plain(low),
        high=plain(high),
        window=window,
    )


def window_means(x: Numbers, edges: Places, window: int) -> Numbers:
    """Return the mean of the finite values in a window around each bucket; NaN where there are none.

    A window that would reach beyond the curve is narrower, and so still centred on its bucket.
    """
    first, end = edges[:-1], edges[1:]
    reach = np.maximum(0, window - (end - first)) // 2
    reach = np.minimum(reach, np.minimum(first, len(x) - end))
    finite = np.isfinite(x)
    sums = np.concatenate([[0.0], np.cumsum(np.where(finite, x, 0.0))])
    counts = np.concatenate([[0], np.cumsum(finite)])
    number = counts[end + reach] - counts[first - reach]
    total = sums[end + reach] - sums[first - reach]
    return np.divide(total, number, out=np.full(len(first), np.nan), where=number > 0)


def plain(values: Numbers) -> list[float | None]:
    """Return numbers for JSON, in five digits; None for each that is not finite."""
    return [rounded(value) if math.isfinite(value) else None for value in values.tolist()]


def rounded(value: float) -> float:
    """Return a number in five digits."""
    return float(f"{value:.5g}")


def curve(log: Log, name: str, buckets: int) -> Thinned:
    """Return the curve of a metric of the steps."""
    values = log.metrics[name]
    steps = [log.step[place] for place in values]
    return thin(steps, list(values.values()), buckets, smooth=name != "lr")


def bucket_count(curves: int) -> int:
    """Return how many buckets each of so many curves may have."""
    return min(BUCKETS[1], max(BUCKETS[0], MOST_NUMBERS // (4 * max(1, curves))))


def eval_metrics(log: Log) -> dict[str, tuple[list[int], list[float | None]]]:
    """Return the metrics that callbacks added to evaluations: steps and values by name."""
    metrics: dict[str, tuple[list[int], list[float | None]]] = {}
    for row in log.evals:
        for key, value in row.items():
            if key in EVAL_KEYS or not (value is None or isinstance(value, int | float)):
                continue
            steps, values = metrics.setdefault(key, ([], []))
            steps.append(row["step"])
            values.append(value)
    return metrics


def event_rows(log: Log) -> list[dict[str, Any]]:
    """Return the events for the page: step, kind and text; of repeated ones the first, with how many came.

    Steps that are not finite one after another are one event.
    """
    rows = list[dict[str, Any]]()
    for row in sorted(log.events, key=lambda row: row["step"]):
        kind = row["event"]
        if kind == "resume":
            text = "resumed"
        elif kind == "changed":
            text = "changed: " + "; ".join(f"{key} {change}" for key, change in row["changes"].items())
        else:
            text = str(row["text"])
        before = rows[-1] if rows else None
        if before and (before["kind"], before["text"]) == (kind, text) and row["step"] <= before["until"] + 1:
            before["until"] = row["step"]
            continue
        rows.append({"step": row["step"], "until": row["step"], "kind": kind, "text": text[:2000]})
    return rows
