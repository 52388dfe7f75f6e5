"""Plot of several runs: validation loss against steps."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from nanotx.errors import ConfigError, RunError, printable
from nanotx.runs.run_table import RunRow

STYLE: Any = {
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#e6e6e6",
    "svg.hashsalt": "nanotx",
    "text.parse_math": False,
}
FORMATS = (".svg", ".png", ".pdf")
COLOURS = ("#4477aa", "#ee6677", "#228833", "#aa3377", "#cc8833", "#44aaaa", "#882255", "#997700")
DASHES = ("-", "--", ":", "-.")
MOST = 16
"""Runs that are named in the legend."""


def check(path: str) -> None:
    """Check the name of a plot.

    Raises:
        ConfigError: the name has no suffix of a format that can be written.
    """
    if Path(path).suffix not in FORMATS:
        raise ConfigError(f"--plot {path}: expected a name that ends in {', '.join(FORMATS)}.")


def draw(runs: Sequence[RunRow], fields: Sequence[str], file: Path) -> None:
    """Draw the validation loss of each run that has one.

    Args:
        runs: the runs, in the order of the legend.
        fields: of the recipe, which name a run in the legend.
        file: the plot.

    Raises:
        ConfigError: no run has a validation loss.
        RunError: the file cannot be written.
    """
    drawn = [run for run in runs if run.curve]
    if not drawn:
        raise ConfigError("--plot: no run has a validation loss, so there is nothing to draw.")
    with rc_context(STYLE):
        figure = Figure(figsize=(9.6, 4.4), layout="constrained")
        axes = figure.subplots()
        labels = labels_of(drawn, fields)
        for index, run in enumerate(drawn):
            steps, losses = zip(*run.curve, strict=True)
            dash = DASHES[index // len(COLOURS) % len(DASHES)]
            label = labels[index] if index < MOST else "_"
            marker = "o" if len(steps) < 3 else None
            axes.plot(steps, losses, dash, color=COLOURS[index % len(COLOURS)], marker=marker, label=label, lw=1.5)
        axes.set_xlabel("step")
        axes.set_ylabel("validation loss (nats per token)")
        axes.set_ylim(*bounds([loss for run in drawn for _, loss in run.curve], [run.curve[-1][1] for run in drawn]))
        axes.grid(True)
        more = f"the first {MOST} of {len(drawn)} runs" if len(drawn) > MOST else None
        figure.legend(loc="outside right upper", fontsize=7.5, frameon=False, title=more)
        try:
            figure.savefig(file, dpi=160)
        except OSError as error:
            raise RunError(f"--plot {file}: cannot be written: {error.strerror}.") from None


def labels_of(runs: Sequence[RunRow], fields: Sequence[str]) -> list[str]:
    """Return the names of the runs' folders, with the first fields in which each differs from most others."""
    usual = {name: Counter(run.value(name) for run in runs).most_common(1)[0][0] for name in fields}
    labels = []
    for run in runs:
        own = {name: run.value(name) for name in fields}
        unusual = [f"{name} {value}" for name, value in own.items() if value not in (None, usual[name])]
        labels.append(printable(": ".join([Path(run.name).name, *([", ".join(unusual[:3])] if unusual else [])]))[:60])
    return labels


def bounds(losses: list[float], last: list[float]) -> tuple[float, float]:
    """Return the axis: the first, large losses are cut, so that what runs end with can be told apart."""
    low, end = min(losses), max(last)
    high = min(max(losses), end + 3 * max(end - low, 0.05 * abs(low) + 1e-9))
    margin = 0.05 * (high - low) or 0.05
    return low - margin, high + margin
