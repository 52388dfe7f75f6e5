"""A chart of characters: a curve in braille or ASCII, marks on it, and axes.

The first steps, whose loss is many times that of the rest, do not set the scale: what is above it is left out, and
how high it reaches is printed there. The newest values always set it, so that a run that diverges is seen to do so.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from nanotx.runs.curve import Point

Line = list[tuple[str, str]]
"""A line of a picture: texts, each with its style."""

BARS = "▁▂▃▄▅▆▇█"

DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""The bits of a braille character, by row and column of its dots."""

FIRST_STEPS = 0.1
"""The share of the steps that sets the scale only where it does not stretch it much."""

STRETCH = 1.5
"""The factor by which the first steps may stretch the scale."""


@dataclass(frozen=True, kw_only=True)
class Glyphs:
    """The characters of a chart."""

    cells: tuple[int, int]  # columns and rows of dots in a character
    up: str  # what is above the scale
    value: str  # a mark: a value
    best: str  # a mark: the best of them
    rule: str  # a vertical line at an event
    level: str  # a horizontal line at a level
    axis: str  # left of a row: without and with a tick; the corner; the line below
    bar: str  # of progress: done, and to be done
    line: str  # of titles
    more: str  # the end of a text that is cut


UNICODE = Glyphs(
    cells=(2, 4), up="↑", value="●", best="★", rule="┊", level="┈", axis="│┤└─", bar="━─", line="─", more="…"
)
ASCII = Glyphs(
    cells=(1, 1), up="^", value="o", best="*", rule=":", level="-", axis="||+-", bar="=-", line="-", more="..."
)


@dataclass(frozen=True, kw_only=True)
class Chart:
    """The contents of a chart."""

    curve: Sequence[Point]  # by rising step
    values: Sequence[Point]  # marked one by one
    last: float = 0.0  # the newest step, where it is after all of these
    best: Point | None = None  # one of the values
    level: float | None = None  # a horizontal line, if it is in reach of the scale
    rules: Sequence[int] = ()  # steps with a vertical line
    marks: Sequence[tuple[int, str, str]] = ()  # step, letter and style of what is marked below the axis


@dataclass(frozen=True)
class Scale:
    """From steps and values to dots."""

    first: float
    last: float
    low: float
    high: float
    columns: int  # of dots
    rows: int  # of dots

    def column(self, step: float) -> int:
        """Return the column of a step; beyond the edges, that of the edge."""
        share = (step - self.first) / (self.last - self.first) if self.last > self.first else 1.0
        return min(self.columns - 1, max(0, round(share * (self.columns - 1))))

    def row(self, value: float) -> int:
        """Return the row of a value, from the top; beyond the edges, that of the edge."""
        share = (self.high - value) / (self.high - self.low)
        return round(min(1.0, max(0.0, share)) * (self.rows - 1))


def draw(chart: Chart, width: int, height: int, glyphs: Glyphs) -> list[Line]:
    """Return a chart as lines.

    Args:
        chart: what is drawn; a curve or values of at least two steps.
        width: in characters.
        height: in lines, with two for the axis of steps and its marks.
        glyphs: the characters.
    """
    low, high = value_range(chart)
    ticks = nice_ticks(low, high, max(3, (height - 2) // 3))
    labels = tick_labels(ticks)
    if max(map(len, labels), default=0) > width // 3:
        ticks, labels = [], []
    margin = max(map(len, labels), default=0) + 2
    columns, rows = max(2, width - margin), max(1, height - 2)
    steps = [step for step, _ in (*chart.curve, *chart.values)]
    dots = Scale(min(steps), max(*steps, chart.last), low, high, columns * glyphs.cells[0], rows * glyphs.cells[1])
    cells = Scale(dots.first, dots.last, low, high, columns, rows)
    grid = Grid(columns, rows)
    for step in chart.rules:
        for row in range(rows):
            grid.put(cells.column(float(step)), row, glyphs.rule, "dim")
    if chart.level is not None and low <= chart.level <= high:
        for column in range(columns):
            grid.put(column, cells.row(chart.level), glyphs.level, "magenta")
    grid.put_curve(path(chart.curve, dots), glyphs)
    peak = max([*chart.curve, *chart.values], key=lambda point: point[1])
    if peak[1] > high:
        grid.put_text(cells.column(peak[0]), 0, f"{glyphs.up} to {peak[1]:.4g} ", "dim cyan")
    for point in [point for point in chart.values if point[1] <= high]:
        style, glyph = ("bold green", glyphs.best) if point == chart.best else ("green", glyphs.value)
        grid.put(cells.column(point[0]), cells.row(point[1]), glyph, style)
    if chart.best is not None:  # above its neighbours
        grid.put(cells.column(chart.best[0]), cells.row(chart.best[1]), glyphs.best, "bold green")
    by_row = {cells.row(tick): label for tick, label in zip(ticks, labels, strict=True)}
    lines = [
        [(f"{by_row.get(row, ''):>{margin - 2}} {glyphs.axis[row in by_row]}", "dim"), *grid.line(row)]
        for row in range(rows)
    ]
    return [*lines, *step_axis(chart, cells, margin, glyphs)]


class Grid:
    """Characters with their styles."""

    def __init__(self, columns: int, rows: int) -> None:
        self.columns = columns
        self.cells = [[(" ", "")] * columns for _ in range(rows)]

    def put(self, column: int, row: int, glyph: str, style: str) -> None:
        """Put a character into a cell."""
        self.cells[row][column] = (glyph, style)

    def put_text(self, column: int, row: int, text: str, style: str) -> None:
        """Put a text into a row, at a column or so far left of it that it fits."""
        column = max(0, min(column, self.columns - len(text)))
        for offset, glyph in enumerate(text[: self.columns]):
            self.put(column + offset, row, glyph, style)

    def put_curve(self, dots: Iterable[tuple[int, int]], glyphs: Glyphs) -> None:
        """Put a curve, given by its dots."""
        wide, tall = glyphs.cells
        bits: dict[tuple[int, int], int] = {}
        for x, y in dots:
            cell = (x // wide, y // tall)
            bits[cell] = bits.get(cell, 0) | DOTS[y % tall][x % wide]
        for (column, row), value in bits.items():
            self.put(column, row, chr(0x2800 + value) if glyphs.cells != (1, 1) else "#", "cyan")

    def line(self, row: int) -> Line:
        """Return a row, neighbours of one style as one text."""
        line: Line = []
        for glyph, style in self.cells[row]:
            if line and line[-1][1] == style:
                line[-1] = (line[-1][0] + glyph, style)
            else:
                line.append((glyph, style))
        return line


def path(curve: Sequence[Point], scale: Scale) -> list[tuple[int, int]]:
    """Return the dots of a curve: the mean of the values of each column, joined by lines; none above the scale."""
    sums: dict[int, tuple[float, int]] = {}
    for step, value in curve:
        total, count = sums.get(column := scale.column(step), (0.0, 0))
        sums[column] = total + value, count + 1
    means = [(column, total / count) for column, (total, count) in sums.items()]
    dots = [(column, scale.row(value)) for column, value in means[:1] if value <= scale.high]
    for (x0, before), (x1, after) in pairwise(means):
        last = before
        for x in range(x0 + 1, x1 + 1):
            value = before + (after - before) * (x - x0) / (x1 - x0)
            y0, y = scale.row(last), scale.row(value)
            if min(last, value) <= scale.high:
                away = range(y0 + 1, y) if y > y0 else range(y0 - 1, y, -1)
                dots += [(x, between) for between in away]
            if value <= scale.high:
                dots.append((x, y))
            last = value
    return dots


def value_range(chart: Chart) -> tuple[float, float]:
    """Return the lowest and the highest value of the scale."""
    points = sorted([*chart.curve, *chart.values])
    values = [value for _, value in points]
    start = points[0][0] + FIRST_STEPS * (points[-1][0] - points[0][0])
    settled = sorted(value for step, value in points if step > start) or sorted(values)
    newest = [value for _, value in points[-2:]]
    spare = len(settled) // 50  # single spikes
    low = min(settled[spare], *newest, *(value for _, value in chart.values))
    high = max(settled[-1 - spare], *newest)
    if max(values) - low <= STRETCH * (high - low):
        high = max(values)
    if chart.level is not None and low - (high - low) <= chart.level < low:
        low = chart.level
    margin = 0.03 * (high - low) or 0.05 * abs(high) or 0.05
    return low - margin, high + margin


def nice_ticks(low: float, high: float, most: int) -> list[float]:
    """Return up to `most` + 1 round numbers in a range."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * (1, 2, 5, 10)[bisect_left((1, 2, 5), rough / power)]
    first = math.ceil(low / step)
    return [index * step for index in range(first, first + most + 2) if index * step <= high]


def tick_labels(ticks: Sequence[float]) -> list[str]:
    """Return ticks with as many decimals as tell them apart."""
    apart = min((after - before for before, after in pairwise(ticks)), default=1.0)
    decimals = min(6, max(0, -math.floor(math.log10(apart) + 1e-9)))
    return [f"{tick:.{decimals}f}" if abs(tick) < 1e6 else f"{tick:.1e}" for tick in ticks]


def step_axis(chart: Chart, cells: Scale, margin: int, glyphs: Glyphs) -> list[Line]:
    """Return the axis of steps with its marks, and its labels."""
    axis: Line = [(f"{' ' * (margin - 1)}{glyphs.axis[2]}", "dim")]
    marked = {cells.column(float(step)): (letter, style) for step, letter, style in chart.marks}
    done = 0
    for column in sorted(marked):
        axis += [(glyphs.axis[3] * (column - done), "dim"), marked[column]]
        done = column + 1
    axis.append((glyphs.axis[3] * (cells.columns - done), "dim"))
    labels = [f"{round(step):,}" for step in (cells.first, (cells.first + cells.last) / 2, cells.last)]
    labels[0] = f"step {labels[0]}"
    free = cells.columns - sum(map(len, labels))
    middle = f"{labels[0]}{' ' * (free // 2)}{labels[1]}{' ' * (free - free // 2)}{labels[2]}"
    text = middle if free >= 8 else f"{labels[0]} {labels[2]:>{max(1, cells.columns - len(labels[0]) - 1)}}"
    return [axis, [(f"{' ' * margin}{text[: cells.columns]}", "dim")]]


def spark(values: Sequence[float], width: int = 72) -> str:
    """Return a curve as one line of text; each bar is the mean of an equal share of the values."""
    count = min(width, len(values))
    if count < 2:
        return ""
    edges = [index * len(values) // count for index in range(count + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(means), max(means)
    return "".join(BARS[round((mean - low) / (high - low or 1.0) * (len(BARS) - 1))] for mean in means)
