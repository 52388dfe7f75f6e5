"""Time against context, as a picture: a line for each part, its name at its end."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from harness.labels import Line, name_lines
from harness.passes import BOTH
from harness.reporting import Row
from harness.subjects import SUBJECTS
from harness.tables import named_places, place
from nanotx.errors import ConfigError

STYLE: Any = {
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#999999",
    "axes.labelcolor": "#444444",
    "xtick.color": "#666666",
    "ytick.color": "#666666",
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.8,
    "svg.hashsalt": "nanotx",
}
COLOURS = (
    "#4477aa", "#ee6677", "#228833", "#aa3377", "#cc8833", "#44aaaa", "#882255", "#997700", "#6655aa", "#994455",
)  # fmt: skip
OURS, OUTSIDE = "#111111", "#999999"
"""Of the reference among our own parts, and of those from outside."""
Colours = dict[tuple[str, str], str]
"""By slot and name."""


def draw(rows: Sequence[Row], file: Path) -> None:
    """Small multiples: a row of panels for each slot and pass, a column for each place and dtype.

    Args:
        rows: of a benchmark; several slots are drawn by forward and backward alone.
        file: its suffix says in which format.

    Raises:
        ConfigError: nothing was timed.
    """
    kept = drawable(rows)
    if not kept:
        raise ConfigError("--plot: nothing was timed, so there is nothing to draw.")
    across = list(dict.fromkeys(key(row)[2:] for row in kept))
    down = list(dict.fromkeys(key(row)[:2] for row in kept))
    colours = colours_of(kept)
    names, size = named_places(rows), (0.4 + 4.7 * len(across), 0.4 + 3.2 * len(down))
    with rc_context(STYLE):
        figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(h_pad=0.1, w_pad=0.06))
        panels = figure.subplots(len(down), len(across), squeeze=False, sharex=True, sharey="row")
        filled = []
        for index, row in enumerate(down):
            for panel, column in zip(panels[index], across, strict=True):
                if mine := [one for one in kept if key(one) == (*row, *column)]:
                    title = f"{row[0]}, {row[1]}, {column[1]} on {names[column[0]]}" + ", compiled" * column[2]
                    filled.append((panel, fill(panel, title, mine, colours)))
            panels[index][0].set_ylabel("microseconds a token")
        for panel, lines in filled:  # when the limits, which panels share, are known
            name_lines(panel, lines)
        for panel in panels[-1]:
            panel.set_xlabel("context")
        figure.savefig(file, dpi=160, metadata={"Date": None} if file.suffix == ".svg" else None)


def drawable(rows: Sequence[Row]) -> list[Row]:
    """Rows that have a time, all of one width: that in which there are the most contexts."""
    slots = {row["slot"] for row in rows}
    timed = [row for row in rows if row["median_ms"] and (len(slots) == 1 or row["pass"] == BOTH)]
    contexts: dict[tuple[int, int], set[int]] = {}
    for row in timed:
        contexts.setdefault((row["dim"], row["heads"]), set()).add(row["time"])
    width = max(contexts, key=lambda one: len(contexts[one]), default=None)
    return [row for row in timed if (row["dim"], row["heads"]) == width]


def key(row: Row) -> tuple[Any, ...]:
    """The panel that a row belongs to."""
    return row["slot"], row["pass"], place(row), row["dtype"], row["compiled"]


def fill(panel: Axes, title: str, rows: Sequence[Row], colours: Colours) -> dict[str, Line]:
    """One panel without the names of its lines, which are returned."""
    points: dict[str, dict[int, float]] = {}
    for row in rows:
        points.setdefault(row["name"], {})[row["time"]] = 1e3 * row["median_ms"] / (row["batch"] * row["time"])
    dress(panel, title, sorted({context for line in points.values() for context in line}))
    lines = {}
    for name in sorted(points):
        colour = colours[rows[0]["slot"], name]
        lines[name] = Line(colour=colour, points=sorted(points[name].items()))
        dashes, width = (0, (4, 2)) if colour == OUTSIDE else "-", 2.2 if colour == OURS else 1.4
        panel.plot(*zip(*lines[name].points, strict=True), color=colour, ls=dashes, lw=width, marker="o", ms=3)
    return lines


def colours_of(rows: Sequence[Row]) -> Colours:
    """The same one for a part in every panel."""
    found: Colours = {}
    for slot in dict.fromkeys(row["slot"] for row in rows):
        names = sorted({row["name"] for row in rows if row["slot"] == slot})
        subject, others = SUBJECTS[slot], iter(COLOURS * (1 + len(names) // len(COLOURS)))
        for name in names:
            outside = OUTSIDE if name in subject.twins else ""
            found[slot, name] = OURS if name == subject.references[0] else outside or next(others)
    return found


def dress(panel: Axes, title: str, contexts: Sequence[int]) -> None:
    """A title, and axes that say no more than they must."""
    panel.set_title(title, loc="left", fontsize=9.5, fontweight="bold", color="#333333")
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    panel.grid(axis="y")
    panel.xaxis.set_major_locator(FixedLocator(contexts))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter(FuncFormatter(lambda at, _: f"{at / 1024:.0f}k" if at >= 1024 else f"{at:.0f}"))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda at, _: f"{at:g}"))
    panel.tick_params(which="both", length=0)
