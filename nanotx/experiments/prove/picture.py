"""A card as a picture: what it says, the ratios of times, and the differences of losses, in one SVG file."""

import math
import textwrap
from collections.abc import Sequence
from html import escape

from nanotx.experiments.prove.card import Card, Speed
from nanotx.experiments.prove.sections import machine_words, shown_pass, summary, title

WIDTH, EDGE = 760.0, 24.0
LEFT, RIGHT = 250.0, 640.0  # of the axes
ROW = 22.0
LETTERS = 100
"""Letters of a line of text."""

STYLE = """
.card { font-family: system-ui, sans-serif; font-size: 13px; }
.card .paper { fill: #fdfdfc; stroke: #ccc; }
.card text { fill: #1d1d1f; font-variant-numeric: tabular-nums; }
.card text.title { font-size: 19px; font-weight: 600; }
.card text.head { font-weight: 600; }
.card text.faint { fill: #6b6b70; font-size: 12px; }
.card text.bad { fill: #b3372f; }
.card .grid { stroke: #ddd; }
.card .zero { stroke: #6b6b70; stroke-dasharray: 3 3; }
.card .range { stroke: #2b6cb0; stroke-width: 3; stroke-linecap: round; }
.card .mean { fill: #2b6cb0; }
.card .seed { fill: none; stroke: #6b6b70; }
@media (prefers-color-scheme: dark) {
  .card .paper { fill: #17181a; stroke: #444; }
  .card text { fill: #ececec; }
  .card text.faint { fill: #9a9aa0; }
  .card text.bad { fill: #ee8077; }
  .card .grid { stroke: #333; }
  .card .zero { stroke: #9a9aa0; }
  .card .range { stroke: #6fb0f2; }
  .card .mean { fill: #6fb0f2; }
  .card .seed { stroke: #9a9aa0; }
}
"""


def svg(card: Card) -> str:
    """Return the card as an SVG file that fetches nothing and follows the reader's light or dark setting."""
    shapes, y = heading(card)
    if not card.broken:
        blocks, y = plot_blocks(card, y)
        shapes += blocks
    shapes.append(label(EDGE, y + 10, machine_words(card), "faint"))
    return frame(shapes, y + 28, title(card))


def plots(card: Card) -> str:
    """Return the plots alone as an SVG element; empty where nothing was measured."""
    shapes, height = plot_blocks(card, 0.0)
    return frame(shapes, height, f"{title(card)}: times and losses", paper=False) if shapes else ""


def frame(shapes: Sequence[str], height: float, about: str, paper: bool = True) -> str:
    """Return shapes as an SVG of this height; on paper of its own, with an edge around it."""
    sheet = f'<rect class="paper" x="0.5" y="0.5" width="{WIDTH - 1:.0f}" height="{height - 1:.0f}" rx="8"/>' * paper
    left, width = (0.0, WIDTH) if paper else (EDGE, WIDTH - 2 * EDGE)
    box = f'viewBox="{left:.0f} 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}"'
    about = f'role="img" aria-label="{escape(about)}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" class="card" {box} {about}><style>{STYLE}</style>{sheet}'
    return "\n".join([head, *shapes, "</svg>\n"])


def label(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    """Return a line of text."""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def heading(card: Card) -> tuple[list[str], float]:
    """Return the title and the summary, and the place below them."""
    shapes, y = [label(EDGE, 36.0, title(card), "title")], 62.0
    lines = textwrap.wrap(summary(card), LETTERS)
    for laws in card.laws or []:
        for broken in laws.broken:
            lines += textwrap.wrap(f"{broken['law']}: {broken['how']}", LETTERS)
    for line in lines:
        shapes.append(label(EDGE, y, line, "bad" if card.broken else ""))
        y += 19
    return shapes, y + 6


def plot_blocks(card: Card, y: float) -> tuple[list[str], float]:
    """Return both plots from a place on, and the place below them."""
    shapes = list[str]()
    for draw in (times, losses):
        block, below = draw(card, y)
        shapes += block
        y = below
    return shapes, y


def times(card: Card, y: float) -> tuple[list[str], float]:
    """Return the plot of the ratios of times, a row per size and pass."""
    measured = [speed for speed in card.speeds or [] if speed.ratio is not None]
    if not measured:
        return [], y
    ends = [end for speed in measured for end in (speed.interval or (speed.ratio or 1.0,))]
    low, high = math.log(min(1.0, *ends)) - 0.1, math.log(max(1.0, *ends)) + 0.1
    axis = Axis(low, high)
    shapes = [label(EDGE, y + 16, f"Time with {card.name}, relative to {card.against}", "head")]
    shapes.append(label(WIDTH - EDGE, y + 16, "left is faster", "faint", "end"))
    top, y = y + 26, y + 26
    bottom = top + ROW * len(measured)
    for tick in (tick for power in (0.01, 0.1, 1.0, 10.0, 100.0) for tick in (power, 2 * power, 5 * power)):
        if low <= math.log(tick) <= high:
            shapes += axis.tick(math.log(tick), top, bottom, f"{tick:g}", tick == 1)
    for speed in measured:
        shapes += time_row(speed, axis, y + ROW / 2)
        y += ROW
    return shapes, bottom + 26


def time_row(speed: Speed, axis: "Axis", y: float) -> list[str]:
    """Return the row of one measurement."""
    assert speed.ratio is not None
    low, high = speed.interval or (speed.ratio, speed.ratio)
    return [
        label(EDGE, y + 4, f"{speed.size}, {shown_pass(speed.what)}"),
        axis.line(math.log(low), math.log(high), y),
        axis.dot(math.log(speed.ratio), y, "mean", 4.5),
        label(WIDTH - EDGE, y + 4, f"{speed.ratio:.2f}", "", "end"),
    ]


def losses(card: Card, y: float) -> tuple[list[str], float]:
    """Return the plot of the difference of losses: each seed, the mean, and its interval."""
    if card.learning is None:
        return [], y
    base, arm = card.learning["arms"]
    pairs = zip(base["losses"], arm["losses"], strict=False)
    seeds = [mine - theirs for theirs, mine in pairs if mine is not None and theirs is not None]
    mean, interval = arm.get("difference"), arm.get("interval") or ()
    if mean is None or not seeds:
        return [], y
    ends = [0.0, mean, *interval, *seeds]
    margin = 0.08 * (max(ends) - min(ends)) or 1e-3
    axis = Axis(min(ends) - margin, max(ends) + margin)
    unit = card.learning["unit"]
    shapes = [label(EDGE, y + 16, f"Loss with {card.name} minus that with {card.against}, in {unit}", "head")]
    top, bottom = y + 26, y + 26 + 2 * ROW
    for value in round_ticks(axis.low, axis.high):
        shapes += axis.tick(value, top, bottom, f"{value:+.6g}" if value else "0", not value)
    shapes += [label(EDGE, top + 15, f"{len(seeds)} seeds"), label(EDGE, top + ROW + 15, "mean and 95% interval")]
    shapes += [axis.dot(seed, top + ROW / 2, "seed", 4.5) for seed in seeds]
    if interval:
        shapes.append(axis.line(interval[0], interval[1], top + 1.5 * ROW))
    shapes += [axis.dot(mean, top + 1.5 * ROW, "mean", 4.5)]
    shapes.append(label(WIDTH - EDGE, top + ROW + 15, f"{mean:+.4f}", "", "end"))
    shapes.append(label(WIDTH - EDGE, y + 16, "left is better", "faint", "end"))
    return shapes, bottom + 26


def round_ticks(low: float, high: float) -> list[float]:
    """Return some four round numbers within a range, and zero if it is in it."""
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(step for step in (power, 2 * power, 5 * power, 10 * power) if step >= rough * 0.999)
    return [round(index * step, 12) for index in range(math.ceil(low / step), math.floor(high / step) + 1)]


class Axis:
    """A horizontal axis from one value to another."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def x(self, value: float) -> float:
        """Return the place of a value."""
        return LEFT + (RIGHT - LEFT) * (value - self.low) / (self.high - self.low)

    def tick(self, value: float, top: float, bottom: float, words: str, zero: bool) -> list[str]:
        """Return a vertical line with a number below it; that of no difference is dashed."""
        x, kind = self.x(value), "zero" if zero else "grid"
        line = f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{bottom:.1f}"/>'
        return [line, label(x, bottom + 14, words, "faint", "middle")]

    def line(self, low: float, high: float, y: float) -> str:
        """Return an interval."""
        return f'<line class="range" x1="{self.x(low):.1f}" x2="{self.x(high):.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'

    def dot(self, value: float, y: float, kind: str, radius: float) -> str:
        """Return a point."""
        return f'<circle class="{kind}" cx="{self.x(value):.1f}" cy="{y:.1f}" r="{radius}"/>'
