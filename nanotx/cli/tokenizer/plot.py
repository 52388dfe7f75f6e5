"""Plot of a comparison: bytes per token against the size of the vocabulary, and tokens per word by script."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from nanotx.cli.tokenizer.measuring import Row
from nanotx.cli.tokenizer.tables import scripts_of
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
COLOURS = ("#4477aa", "#ee6677", "#228833", "#aa3377", "#cc8833", "#44aaaa", "#882255", "#997700")
FORMATS = (".svg", ".png", ".pdf")
TITLE: Any = {"loc": "left", "fontsize": 9.5, "fontweight": "bold", "color": "#333333"}


def check(path: str) -> None:
    """Check the name of a plot, before minutes are spent on its figures.

    Raises:
        ConfigError: the name has no suffix of a format that can be written.
    """
    if Path(path).suffix not in FORMATS:
        raise ConfigError(f"--plot {path}: expected a name that ends in {', '.join(FORMATS)}.")


def draw(rows: Sequence[Row], about: str, file: Path) -> None:
    """Draw the tokenizers that lose no text.

    Raises:
        ConfigError: there is no such tokenizer.
    """
    lossless = [row for row in rows if row["bytes_per_token"]]
    if not lossless:
        raise ConfigError("--plot: every tokenizer lost text, so there is nothing to draw.")
    parts = scripts_of(lossless)
    several = len(parts) > 1
    colours = {row["name"]: COLOURS[index % len(COLOURS)] for index, row in enumerate(lossless)}
    with rc_context(STYLE):
        figure = Figure(figsize=(6.4, 6.8 if several else 3.8), layout="constrained")
        panels = figure.subplots(2 if several else 1, 1, squeeze=False)
        sizes(panels[0][0], lossless, about, colours)
        if several:
            bars(panels[1][0], lossless, parts, colours)
            figure.legend(frameon=False, ncols=4, fontsize=8, loc="outside lower left")
        figure.draw_without_rendering()  # computes the positions of the points
        label(panels[0][0], lossless, colours)
        figure.savefig(file, dpi=160, metadata={"Date": None} if file.suffix == ".svg" else None)


def sizes(panel: Axes, rows: Sequence[Row], about: str, colours: dict[str, str]) -> None:
    """Draw bytes per token against the size of the vocabulary; a line joins tokenizers that differ in it alone."""
    panel.set_title(f"bytes per token, {about}", **TITLE)
    panel.set_xscale("log", base=2)
    panel.set_xlabel("ids in the vocabulary; after each name, the seconds of training")
    panel.set_ylabel("bytes per token")
    panel.grid(axis="y")
    panel.tick_params(which="both", length=0)
    panel.xaxis.set_major_formatter(FuncFormatter(lambda at, _: f"{at:,.0f}"))
    panel.xaxis.set_minor_locator(NullLocator())
    lines: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        alike = re.sub(r":\d+", "", row["name"])
        lines.setdefault(alike, []).append((row["vocab_size"], row["bytes_per_token"]))
    for line in lines.values():
        panel.plot(*zip(*sorted(line), strict=True), color="#cccccc", lw=1, zorder=1)
    for row in rows:
        panel.scatter(row["vocab_size"], row["bytes_per_token"], color=colours[row["name"]], s=28, zorder=2)
    panel.margins(x=0.12, y=0.14)


def label(panel: Axes, rows: Sequence[Row], colours: dict[str, str]) -> None:
    """Label each point with its name and its seconds of training, on the first side that is free."""
    points = 72 / panel.figure.dpi  # a pixel
    at = panel.transData.transform([(row["vocab_size"], row["bytes_per_token"]) for row in rows]) * points
    place = {row["name"]: (float(x), float(y)) for row, (x, y) in zip(rows, at, strict=True)}
    taken = [Box(x - 5, y - 5, 10, 10) for x, y in place.values()]
    (left, bottom), (right, top) = (panel.transAxes.transform([(0, 0), (1, 1)]) * points).tolist()
    for row in rows:
        seconds = row["train_seconds"]
        text = (
            row["name"] if seconds is None else f"{row['name']}, {f'{seconds:.2f}' if seconds >= 0.01 else '<0.01'} s"
        )
        wide, (x, y) = 4.7 * len(text), place[row["name"]]
        sides = [(7, -5), (-7 - wide, -5), (-wide / 2, 7), (-wide / 2, -17), (7, 6), (-7 - wide, 6), (7, -17)]
        boxes = [Box(x + dx, y + dy, wide, 10) for dx, dy in sides]
        inside = [box for box in boxes if left <= box.x and box.x + wide <= right and bottom <= box.y <= top - 10]
        box = next((box for box in inside if not any(map(box.meets, taken))), (inside or boxes)[0])
        taken.append(box)
        note = panel.annotate(
            text, (row["vocab_size"], row["bytes_per_token"]), (box.x - x, box.y - y + 2),
            textcoords="offset points", fontsize=8, color=colours[row["name"]],
        )  # fmt: skip
        note.set_in_layout(False)


class Box(NamedTuple):
    """Rectangle in points."""

    x: float
    y: float
    wide: float
    high: float

    def meets(self, other: "Box") -> bool:
        """Whether the two overlap."""
        across = self.x < other.x + other.wide and other.x < self.x + self.wide
        return across and self.y < other.y + other.high and other.y < self.y + self.high


def bars(panel: Axes, rows: Sequence[Row], parts: Sequence[str], colours: dict[str, str]) -> None:
    """Draw tokens per word, a group of bars per script."""
    panel.set_title("tokens per word, by script", **TITLE)
    panel.set_xticks(range(len(parts)), parts)
    panel.grid(axis="y")
    panel.set_axisbelow(True)
    panel.tick_params(which="both", length=0)
    width = 0.8 / len(rows)
    for index, row in enumerate(rows):
        heights = [(row["scripts"].get(name) or {}).get("fertility") or 0.0 for name in parts]
        places = [place - 0.4 + width * (index + 0.5) for place in range(len(parts))]
        panel.bar(places, heights, width * 0.92, color=colours[row["name"]], label=row["name"])
