"""A run as one sees it: a live picture on a terminal, plain lines anywhere else; fed by the rows of its journal."""

import time
import unicodedata
from itertools import pairwise
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

Row = dict[str, Any]
BARS = "▁▂▃▄▅▆▇█"
PAUSE = 5.0  # seconds between two plain lines of steps


class Display:
    """Shows rows as they come."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self.spoke = 0.0  # when the last plain line of a step was printed
        self.live: Live | None = None
        self.title, self.steps, self.tokens = "", 1, 0
        self.floor: float | None = None
        self.step: Row = {}
        self.sample: Row = {}
        self.evals: list[Row] = []
        self.losses: list[float] = []
        self.speed = 0.0

    def say(self, text: str) -> None:
        """A line of its own, above the picture."""
        self.console.print(Text(printable(text)), soft_wrap=True)

    def shout(self, text: str, title: str) -> None:
        """A panel that cannot be missed."""
        self.console.print(Panel(Text(text), title=title, border_style="bold yellow"))

    def show(self, row: Row) -> None:
        """Take in what happened."""
        event = row["event"]
        if event in ("start", "resume"):
            self.title, self.steps, self.tokens = row["title"], row["steps"], row["tokens_per_step"]
            self.floor = row.get("floor")
        elif event == "step":
            self.step = row
            self.losses.append(row["loss"])
            speed = row["tokens_per_second"]
            self.speed = 0.95 * self.speed + 0.05 * speed if self.speed else speed
        elif event == "eval":
            self.evals.append(row)
        elif event == "sample":
            self.sample = row
        if self.live is None:
            self.plain(row)

    def __enter__(self) -> "Display":
        if self.console.is_terminal:
            self.live = Live(get_renderable=self.picture, console=self.console, refresh_per_second=4)
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live is not None:
            self.live.stop()
            self.live = None

    # Plain lines.

    def plain(self, row: Row) -> None:
        """One line, or a sample's several; steps only now and then."""
        event = row["event"]
        if event in ("start", "resume"):
            self.say(self.title)
        elif event == "step" and time.monotonic() - self.spoke > PAUSE:
            self.spoke = time.monotonic()
            self.say(f"step {row['step']}/{self.steps}  {self.status()}")
        elif event == "eval":
            floor = "" if self.floor is None else f"  floor {self.floor:.4f}"
            self.say(
                f"step {row['step']}/{self.steps}  validation loss {row['val_loss']:.4f}  "
                f"training loss {row['train_loss']:.4f}  gap {gap(row):+.4f}  "
                f"bits per byte {row['bits_per_byte']:.4f}{floor}"
            )
        elif event == "sample":
            self.say(f"--- step {row['step']} writes:\n{row['text'].strip()}\n---")

    def status(self) -> str:
        """The newest step in words."""
        left = (self.steps - self.step["step"]) * self.tokens / self.speed if self.speed else 0.0
        return f"loss {self.smooth():.3f}  {self.speed:,.0f} tokens/s  {clock(left)} left"

    def smooth(self) -> float:
        """The mean loss of the last few steps."""
        last = self.losses[-20:]
        return sum(last) / len(last) if last else float("nan")

    # The live picture.

    def picture(self) -> RenderableType:
        """Everything known, on one screen."""
        parts: list[RenderableType] = [Text(printable(self.title), "bold")]
        if self.step:
            done = self.step["step"]
            row = Table.grid(padding=(0, 2))
            row.add_row(f"step {done:,}/{self.steps:,}", ProgressBar(total=self.steps, completed=done, width=40))
            parts += [row, Text(self.status()), Text(spark(self.losses), "cyan", no_wrap=True, overflow="crop")]
        if self.evals:
            parts.append(self.table())
        if self.sample:
            text = Text(printable(self.sample["text"].strip()), overflow="fold")
            parts.append(
                Panel(text, title=f"step {self.sample['step']} writes", title_align="left", border_style="dim")
            )
        return Group(*parts)

    def table(self) -> Table:
        """The newest evaluations; the best validation loss stands out."""
        table = Table(box=None, padding=(0, 2), header_style="dim")
        for name in ("step", "training loss", "validation loss", "gap", "bits per byte"):
            table.add_column(name, justify="right", no_wrap=True)
        if self.floor is not None:
            table.add_column("floor", justify="right")
        best = min(row["val_loss"] for row in self.evals)
        for row in self.evals[-6:]:
            cells = [f"{row['step']:,}", f"{row['train_loss']:.4f}", f"{row['val_loss']:.4f}", f"{gap(row):+.4f}"]
            cells += [f"{bits:.4f}" for bits in (row["bits_per_byte"], self.floor) if bits is not None]
            table.add_row(*cells, style="bold green" if row["val_loss"] == best else "")
        return table


def gap(row: Row) -> float:
    """How much worse the validation text is predicted than the training text, in nats per token."""
    return float(row["val_loss"] - row["train_loss"])


def spark(losses: list[float], width: int = 72) -> str:
    """A loss curve in one line of text: each bar the mean of an equal share of the steps."""
    count = min(width, len(losses))
    if count < 2:
        return ""
    edges = [index * len(losses) // count for index in range(count + 1)]
    means = [sum(losses[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(means), max(means)
    return "".join(BARS[round((mean - low) / (high - low or 1.0) * (len(BARS) - 1))] for mean in means)


def clock(seconds: float) -> str:
    """Seconds as hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def printable(text: str) -> str:
    """A text that cannot command a terminal: control characters but newline and tab become U+FFFD."""
    return "".join("\ufffd" if unicodedata.category(c) == "Cc" and c not in "\n\t" else c for c in text)
