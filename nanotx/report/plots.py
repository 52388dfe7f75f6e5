"""Plots of a report as files: the loss, and every metric, of one run or of several together."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from nanotx.errors import RunError, printable
from nanotx.report.curves import bucket_count, curve
from nanotx.report.gather import RunReport
from nanotx.report.page import MOST_RUNS, metric_names, short_names

STYLE: Any = {
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "svg.hashsalt": "nanotx",
    "text.parse_math": False,
}
COLOURS = ("#c2571a", "#2b6cb0", "#2e7d4f", "#8347ad", "#b83265", "#86691a", "#167f82", "#5d6068")
FORMATS = ("png", "svg")

MOST_PLOTS = 24
"""The most metrics that are drawn."""


def draw_plots(runs: Sequence[RunReport], folder: Path) -> list[Path]:
    """Draw loss.png and loss.svg, and as much for each other metric, into a folder; return the files.

    Raises:
        RunError: the folder or a file cannot be written, or no run has a metric.
    """
    shown = list(runs[:MOST_RUNS])
    names = list(dict.fromkeys(name for run in shown for name in metric_names(run)))[:MOST_PLOTS]
    if not names and not any(run.log.evals for run in shown):
        raise RunError("--plots: no run has metrics yet, so there is nothing to draw.")
    files = list[Path]()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with rc_context(STYLE):
            for name in dict.fromkeys(["loss", *names]):
                figure = Figure(figsize=(8.0, 4.2), layout="constrained")
                draw_metric(figure, shown, name)
                for form in FORMATS:
                    files.append(folder / f"{file_name(name)}.{form}")
                    figure.savefig(files[-1], dpi=150)
    except OSError as error:
        raise RunError(f"--plots {folder}: cannot be written: {error.strerror}.") from None
    return files


def file_name(metric: str) -> str:
    """Return the name of a metric as the name of a file."""
    return "".join(letter if letter.isalnum() or letter in "_-." else "_" for letter in metric)[:80]


def draw_metric(figure: Figure, runs: Sequence[RunReport], name: str) -> None:
    """Draw one metric of all runs against steps; the loss with its evaluations and reference lines."""
    axes = figure.subplots()
    labels = short_names([run.name for run in runs])
    for index, (run, label) in enumerate(zip(runs, labels, strict=True)):
        colour = COLOURS[index % len(COLOURS)]
        if name in run.log.metrics:
            thinned = curve(run.log, name, bucket_count(len(runs)))
            mean, low, high = ([math.nan if value is None else value for value in values]
                               for values in (thinned.mean, thinned.low, thinned.high))  # fmt: skip
            alone = name == "loss" and len(runs) == 1
            text = "training batches" if alone else printable(label)
            axes.plot(thinned.steps, mean, color=COLOURS[1] if alone else colour, lw=1.3, label=text)
            axes.fill_between(thinned.steps, low, high, color=COLOURS[1] if alone else colour, alpha=0.2, lw=0)
        if name == "loss" and run.log.evals:
            evals = [(row["step"], row["val_loss"]) for row in run.log.evals if row["val_loss"] is not None]
            text = "validation text" if len(runs) == 1 else "_"
            axes.plot(*zip(*evals, strict=True), "o-", color=colour, ms=3, lw=1.3, label=text)
    if name == "loss":
        reference_lines(axes, runs)
    if name.startswith("grad_norm"):
        axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.set_ylabel("loss (nats per token)" if name == "loss" else printable(name)[:80])
    axes.legend(frameon=False, fontsize=8)


def reference_lines(axes: Any, runs: Sequence[RunReport]) -> None:
    """Draw what simpler models reach, where all runs share it."""
    shared = {frozenset(run.references.items()) for run in runs if run.references}
    for name, loss in next(iter(shared)) if len(shared) == 1 else ():
        axes.axhline(loss, color="#6b6b70", lw=0.8, ls=":")
        axes.annotate(f"{name} {loss:.2f}", (1, loss), xycoords=("axes fraction", "data"), ha="right", va="bottom",
                      fontsize=7.5, color="#6b6b70")  # fmt: skip
