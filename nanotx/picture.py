"""A run's course on one screen: the live picture of a terminal, and what `nanotx show` draws again."""

import math
from itertools import pairwise

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from nanotx.course import Course, error, gap, rate

BARS = "▁▂▃▄▅▆▇█"


def picture(course: Course, said: str = "") -> RenderableType:
    """Everything known, on one screen, and what else is said of it."""
    parts: list[RenderableType] = [Text(course.title, "bold")]
    if course.step:
        done = course.step["step"]
        row = Table.grid(padding=(0, 2))
        row.add_row(f"step {done:,}/{course.steps:,}", ProgressBar(total=course.steps, completed=done, width=40))
        parts += [row, Text(course.status()), Text(spark(course.losses), "cyan", no_wrap=True, overflow="crop")]
    if course.evals:
        parts.append(evaluations(course))
    for line in filter(None, (course.warning, said)):
        parts.append(Text(line, "yellow"))
    if course.sample:
        text, title = Text(course.sample["text"].strip(), overflow="fold"), f"step {course.sample['step']} writes"
        parts.append(Panel(text, title=title, title_align="left", border_style="dim"))
    return Group(*parts)


def evaluations(course: Course) -> Table:
    """The newest evaluations; the best validation loss stands out."""
    table = Table(box=None, padding=(0, 1), header_style="dim")
    for name in ("step", "training loss", "validation loss", "gap", "bits per byte"):
        table.add_column(name, justify="right", no_wrap=True)
    if told := any(row.get("val_stderr") is not None for row in course.evals):
        table.add_column("±", justify="right", no_wrap=True)
    if course.floor is not None:
        table.add_column("floor", justify="right")
    best = min((row["val_loss"] for row in course.evals if math.isfinite(row["val_loss"])), default=None)
    for row in course.evals[-6:]:
        cells = [f"{row['step']:,}", f"{row['train_loss']:.4f}", f"{row['val_loss']:.4f}", f"{gap(row):+.4f}"]
        cells += [rate(row["bits_per_byte"]), *([error(row).removeprefix(" ± ")] if told else [])]
        cells += [] if course.floor is None else [rate(course.floor)]
        table.add_row(*cells, style="bold green" if row["val_loss"] == best else "")
    return table


def spark(losses: list[float], width: int = 72) -> str:
    """A loss curve in one line of text: each bar the mean of an equal share of the steps."""
    count = min(width, len(losses))
    if count < 2:
        return ""
    edges = [index * len(losses) // count for index in range(count + 1)]
    means = [sum(losses[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(means), max(means)
    return "".join(BARS[round((mean - low) / (high - low or 1.0) * (len(BARS) - 1))] for mean in means)
