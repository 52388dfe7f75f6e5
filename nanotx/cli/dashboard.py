"""The dashboard: a run as it is trained, live on a terminal and as plain lines elsewhere."""

import math
import sys
import time
from itertools import pairwise
from typing import IO, cast

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from nanotx.cli.console import SafeStream
from nanotx.errors import printable
from nanotx.runs.history import History, error, extent, gap, rate, readable
from nanotx.runs.metrics_log import Row

PAUSE = 5.0  # seconds between two plain lines of steps


class Display:
    """Shows rows as they come."""

    def __init__(self, console: Console | None = None) -> None:
        self.noted = ""  # a line beside the figures
        self.console = console or Console(highlight=False, file=cast(IO[str], SafeStream(sys.stdout)))
        self.history = History()
        self.last_printed = 0.0  # when the last plain line of a step was printed
        self.live: Live | None = None

    def say(self, text: str) -> None:
        """Print a line above the live display."""
        self.console.print(Text(printable(text)), soft_wrap=True)

    def shout(self, text: str, title: str) -> None:
        """Print a prominent panel."""
        self.console.print(Panel(Text(text), title=title, border_style="bold yellow"))

    def note(self, text: str) -> None:
        """Show a line beside the figures, until the next one; as plain lines, after the row that comes next."""
        self.noted = printable(text)

    def show(self, row: Row) -> None:
        """Show a row."""
        row = printable_row(row)
        self.history.take(row)
        if self.live is not None and row["event"] in ("start", "resume"):
            self.say(self.history.title)
        if self.live is None:
            self.plain(row)
            if self.noted:
                self.say(self.noted)
                self.noted = ""

    def __enter__(self) -> "Display":
        if self.console.is_terminal and not self.console.is_dumb_terminal:
            self.live = Live(get_renderable=self.picture, console=self.console, refresh_per_second=4)
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live is not None:
            self.live.stop()
            self.live = None

    def picture(self) -> RenderableType:
        """Return the state of the run as one screen."""
        return picture(self.history, self.noted, titled=self.live is None)

    def plain(self, row: Row) -> None:
        """Print a row as plain lines; a step only every few seconds."""
        event, history = row["event"], self.history
        if event in ("start", "resume"):
            self.say(history.title)
        elif event == "step" and time.monotonic() - self.last_printed > PAUSE:
            self.last_printed = time.monotonic()
            metrics = history.metrics_line()
            self.say(f"step {row['step']}/{history.steps}  {history.status()}{'  ' * bool(metrics)}{metrics}")
        elif event == "eval":
            row = readable(row)
            floor = "" if history.floor is None else f"  floor {history.floor:.4f}"
            self.say(
                f"step {row['step']}/{history.steps}  validation loss {row['val_loss']:.4f}{error(row)}  "
                f"training loss {row['train_loss']:.4f}  gap {gap(row):+.4f}  "
                f"bits per byte {rate(row['bits_per_byte'])}{floor}{extent(row)}"
            )
        elif event == "sample":
            self.say(f"--- step {row['step']} writes:\n{row['text'].strip()}\n---")
        elif event == "warning":
            self.say(row["text"])


class Silent:
    """Shows nothing."""

    def say(self, text: str) -> None:
        """Print nothing."""

    def shout(self, text: str, title: str) -> None:
        """Print nothing."""

    def note(self, text: str) -> None:
        """Print nothing."""

    def show(self, row: Row) -> None:
        """Show nothing."""

    def __enter__(self) -> "Silent":
        return self

    def __exit__(self, *_: object) -> None:
        pass


def printable_row(row: Row) -> Row:
    """Return a row whose texts cannot command a terminal."""
    return {key: printable(item) if isinstance(item, str) else item for key, item in row.items()}


BARS = "▁▂▃▄▅▆▇█"


def picture(history: History, noted: str = "", titled: bool = True) -> RenderableType:
    """Return the state of the run as one screen, with a note, and under its title unless that is printed above."""
    parts: list[RenderableType] = [Text(history.title, "bold")] if titled else []
    if history.step:
        done = history.step["step"]
        row = Table.grid(padding=(0, 2))
        row.add_row(f"step {done:,}/{history.steps:,}", ProgressBar(total=history.steps, completed=done, width=40))
        parts += [row, Text(history.status()), Text(spark(history.losses), "cyan", no_wrap=True, overflow="crop")]
    if history.evals:
        parts.append(evaluations(history))
    if metrics := history.metrics_line():
        parts.append(Text(metrics, "dim"))
    for line in filter(None, (history.warning, noted)):
        parts.append(Text(line, "yellow"))
    if history.sample:
        text, title = Text(history.sample["text"].strip(), overflow="fold"), f"step {history.sample['step']} writes"
        parts.append(Panel(text, title=title, title_align="left", border_style="dim"))
    return Group(*parts)


def evaluations(history: History) -> Table:
    """Return a table of the newest evaluations, with the best validation loss in bold."""
    table = Table(box=None, padding=(0, 1), header_style="dim")
    for name in ("step", "training loss", "validation loss", "gap", "bits per byte"):
        table.add_column(name, justify="right", no_wrap=True)
    if has_stderr := any(row.get("val_stderr") is not None for row in history.evals):
        table.add_column("±", justify="right", no_wrap=True)
    if history.floor is not None:
        table.add_column("floor", justify="right")
    best = min((row["val_loss"] for row in history.evals if math.isfinite(row["val_loss"])), default=None)
    for row in history.evals[-6:]:
        cells = [f"{row['step']:,}", f"{row['train_loss']:.4f}", f"{row['val_loss']:.4f}", f"{gap(row):+.4f}"]
        cells += [rate(row["bits_per_byte"]), *([error(row).removeprefix(" ± ")] if has_stderr else [])]
        cells += [] if history.floor is None else [rate(history.floor)]
        table.add_row(*cells, style="bold green" if row["val_loss"] == best else "")
    return table


def spark(losses: list[float], width: int = 72) -> str:
    """Return a loss curve as one line of text; each bar is the mean of an equal share of the steps."""
    count = min(width, len(losses))
    if count < 2:
        return ""
    edges = [index * len(losses) // count for index in range(count + 1)]
    means = [sum(losses[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(means), max(means)
    return "".join(BARS[round((mean - low) / (high - low or 1.0) * (len(BARS) - 1))] for mean in means)
