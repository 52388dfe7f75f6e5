"""Plot of a sweep: the loss against each field that was varied, with intervals."""

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nanotx.cli.run_plot import COLOURS, STYLE
from nanotx.errors import RunError, printable
from nanotx.experiments.response import Response
from nanotx.experiments.vary import Axis, number

MOST_CURVES = 8
"""Values of a second field that have a curve each; of more, every point is drawn without one."""

MOST_TICKS = 5
"""Values that are written below a logarithmic axis."""

BESIDE = 0.012
"""Distance of the points of two curves at one place, as a fraction of the axis."""


def draw(responses: Sequence[Response], axes: Sequence[Axis], recipe: float | None, unit: str, file: Path) -> None:
    """Draw a panel for each field, and in it a curve for each value of the other field, if there is one other.

    Args:
        responses: of the points.
        axes: the fields that were varied.
        recipe: mean loss of the recipe as it is, drawn as a line; None to leave it out.
        unit: of the losses.
        file: the plot.

    Raises:
        RunError: the file cannot be written.
    """
    finite = [response for response in responses if response.mean is not None]
    with rc_context(STYLE):
        figure = Figure(figsize=(max(5.4, 4.2 * len(axes)), 3.8), layout="constrained")
        panels = figure.subplots(1, len(axes), squeeze=False, sharey=True)[0]
        for panel, axis in zip(panels, axes, strict=True):
            others = [other.field for other in axes if other is not axis]
            draw_panel(panel, finite, axis, others)
            if recipe is not None:
                panel.axhline(recipe, color="#888888", lw=1, ls="--", label="the recipe", zorder=0)
            panel.set_xlabel(printable(axis.field))
            panel.grid(True)
            if panel.get_legend_handles_labels()[1]:
                title = printable(others[0]) if len(others) == 1 else None
                below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.2), "ncols": 4}
                panel.legend(fontsize=7.5, frameon=False, title=title, **below)
        panels[0].set_ylabel(unit)
        try:
            figure.savefig(file, dpi=160)
        except OSError as error:
            raise RunError(f"--plot {file}: cannot be written: {error.strerror}.") from None


def draw_panel(panel: Axes, responses: Sequence[Response], axis: Axis, others: Sequence[str]) -> None:
    """Draw the responses against one field.

    Args:
        panel: where.
        responses: those with a mean.
        axis: the field.
        others: the other fields.
    """
    places, names = places_of([response.point[axis.field] for response in responses])
    if names:
        panel.set_xticks(range(len(names)), [printable(name)[:24] for name in names])
    elif axis.log:
        panel.set_xscale("log")
        marks = spread(sorted(set(places)), MOST_TICKS)
        panel.set_xticks(marks, [f"{mark:.3g}" for mark in marks])
        panel.minorticks_off()
    kinds = dict.fromkeys(response.point[others[0]] for response in responses) if len(others) == 1 else {}
    if not kinds or len(kinds) > MOST_CURVES:
        draw_curve(panel, responses, places, COLOURS[0], None, joined=not others)
        return
    for index, kind in enumerate(kinds):
        own = [response for response in responses if response.point[others[0]] == kind]
        where = [place for response, place in zip(responses, places, strict=True) if response in own]
        beside = (index - (len(kinds) - 1) / 2) * BESIDE  # so that intervals of one place do not cover each other
        width = math.log(max(places) / min(places)) if axis.log else max(places) - min(places)
        where = [place * math.exp(beside * width) if axis.log else place + beside * width for place in where]
        draw_curve(panel, own, where, COLOURS[index % len(COLOURS)], printable(kind)[:40], joined=True)


def spread(values: Sequence[float], count: int) -> list[float]:
    """Return at most so many of some values, evenly spread over them."""
    step = -(-len(values) // count)
    return list(values[::step])


def places_of(values: Sequence[str]) -> tuple[list[float], list[str]]:
    """Return where values are on an axis: numbers at themselves, others side by side, with their names."""
    numbers = [number(value) for value in values]
    plain = [value for value in numbers if value is not None]
    if len(plain) == len(values):
        return plain, []
    names = list(dict.fromkeys(values))
    return [float(names.index(value)) for value in values], names


def draw_curve(
    panel: Axes, responses: Sequence[Response], places: Sequence[float], colour: str, label: str | None, joined: bool
) -> None:
    """Draw means with their intervals, in the order of their places."""
    rows = sorted(zip(places, responses, strict=True), key=lambda row: row[0])
    xs = [place for place, _ in rows]
    means = [response.mean or 0.0 for _, response in rows]
    panel.plot(xs, means, "o-" if joined else "o", color=colour, label=label, lw=1.5, ms=4)
    for x, response in rows:
        if response.interval is not None:
            panel.plot([x, x], response.interval, color=colour, lw=1, marker="_", ms=6)
