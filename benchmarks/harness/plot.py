"""A plot of time against context: a line for each part, its name at its end."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from harness import Row
from harness.parts import named_places, place
from harness.passes import BOTH
from harness.slots import SLOTS
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
BASELINE, PEER = "#111111", "#999999"
MIN_GAP = 0.055
"""The distance between two names, as a share of the height of a panel."""
Colours = dict[tuple[str, str], str]
"""By slot and name."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One part in one panel."""

    colour: str
    points: list[tuple[int, float]]  # contexts, and microseconds per token


def draw(rows: Sequence[Row], file: Path) -> None:
    """Draw a row of panels for each slot and pass, a column for each place and dtype.

    Args:
        rows: of a benchmark; of several slots only forward and backward together is drawn.
        file: its suffix gives the format.

    Raises:
        ConfigError: nothing was timed.
    """
    timed = drawable(rows)
    if not timed:
        raise ConfigError("--plot: nothing was timed, so there is nothing to draw.")
    across = list(dict.fromkeys(panel_of(row)[2:] for row in timed))
    down = list(dict.fromkeys(panel_of(row)[:2] for row in timed))
    colours, names = colours_of(timed), named_places(rows)
    with rc_context(STYLE):
        size = (0.4 + 4.7 * len(across), 0.4 + 3.2 * len(down))
        figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(h_pad=0.1, w_pad=0.06))
        panels = figure.subplots(len(down), len(across), squeeze=False, sharex=True, sharey="row")
        filled = []
        for index, (slot, way) in enumerate(down):
            for panel, (where, dtype, compiled) in zip(panels[index], across, strict=True):
                if own := [row for row in timed if panel_of(row) == (slot, way, where, dtype, compiled)]:
                    title = f"{slot}, {way}, {dtype} on {names[where]}" + ", compiled" * compiled
                    filled.append((panel, fill(panel, title, own, colours)))
            panels[index][0].set_ylabel("microseconds per token")
        for panel, lines in filled:  # once the limits, which panels share, are known
            name_lines(panel, lines)
        for panel in panels[-1]:
            panel.set_xlabel("context")
        figure.savefig(file, dpi=160, metadata={"Date": None} if file.suffix == ".svg" else None)


def drawable(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that have a time, all of one width: that with the most contexts."""
    slots = {row["slot"] for row in rows}
    timed = [row for row in rows if row["median_ms"] and (len(slots) == 1 or row["pass"] == BOTH)]
    contexts: dict[tuple[int, int], set[int]] = {}
    for row in timed:
        contexts.setdefault((row["dim"], row["heads"]), set()).add(row["time"])
    width = max(contexts, key=lambda sizes: len(contexts[sizes]), default=None)
    return [row for row in timed if (row["dim"], row["heads"]) == width]


def panel_of(row: Row) -> tuple[Any, ...]:
    """Return the panel that a row belongs to."""
    return row["slot"], row["pass"], place(row), row["dtype"], row["compiled"]


def colours_of(rows: Sequence[Row]) -> Colours:
    """Choose a colour for each part, the same in every panel."""
    colours: Colours = {}
    for slot in dict.fromkeys(row["slot"] for row in rows):
        names = sorted({row["name"] for row in rows if row["slot"] == slot})
        compared, others = SLOTS[slot], iter(COLOURS * (1 + len(names) // len(COLOURS)))
        for name in names:
            own = PEER if name in compared.peers else next(others) if name != compared.baselines[0] else BASELINE
            colours[slot, name] = own
    return colours


def fill(panel: Axes, title: str, rows: Sequence[Row], colours: Colours) -> dict[str, Line]:
    """Draw one panel without the names of its lines; return the lines."""
    points: dict[str, dict[int, float]] = {}
    for row in rows:
        points.setdefault(row["name"], {})[row["time"]] = 1e3 * row["median_ms"] / (row["batch"] * row["time"])
    panel.set_title(title, loc="left", fontsize=9.5, fontweight="bold", color="#333333")
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    panel.grid(axis="y")
    panel.xaxis.set_major_locator(FixedLocator(sorted({context for line in points.values() for context in line})))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter(FuncFormatter(lambda at, _: f"{at / 1024:.0f}k" if at >= 1024 else f"{at:.0f}"))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda at, _: f"{at:g}"))
    panel.tick_params(which="both", length=0)
    lines = {}
    for name in sorted(points):
        colour = colours[rows[0]["slot"], name]
        lines[name] = Line(colour=colour, points=sorted(points[name].items()))
        dashes, width = (0, (4, 2)) if colour == PEER else "-", 2.2 if colour == BASELINE else 1.4
        panel.plot(*zip(*lines[name].points, strict=True), color=colour, ls=dashes, lw=width, marker="o", ms=3)
    return lines


# Names at the ends of lines, in place of a legend.


def name_lines(panel: Axes, lines: dict[str, Line]) -> None:
    """Write each name at the end of its line, or as near as the other names allow."""
    low, high = (math.log(limit) for limit in panel.get_ylim())
    ends = {name: (math.log(line.points[-1][1]) - low) / (high - low) for name, line in lines.items()}
    for name, height in spread_out(ends, MIN_GAP).items():
        panel.annotate(
            name,
            xy=lines[name].points[-1],
            xytext=(1.05, height),
            textcoords="axes fraction",
            color=lines[name].colour,
            fontsize=8.5,
            va="center",
            arrowprops={"arrowstyle": "-", "color": lines[name].colour, "lw": 0.5, "shrinkA": 1, "shrinkB": 3},
        )


def spread_out(heights: dict[str, float], gap: float) -> dict[str, float]:
    """Return heights in the same order, at least `gap` apart, each group of near ones centred on its mean."""
    groups: list[list[str]] = []
    centres: list[float] = []
    for name in sorted(heights, key=lambda name: heights[name]):
        groups.append([name])
        centres.append(heights[name])
        while len(groups) > 1 and centres[-1] - centres[-2] < gap * (len(groups[-2]) + len(groups[-1])) / 2:
            last = groups.pop()
            groups[-1] += last
            centres.pop()
            centres[-1] = sum(heights[name] for name in groups[-1]) / len(groups[-1])
    return {
        name: centre + gap * (index - (len(group) - 1) / 2)
        for group, centre in zip(groups, centres, strict=True)
        for index, name in enumerate(group)
    }
