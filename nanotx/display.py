"""A run as one sees it: a live picture on a terminal, plain lines anywhere else; fed by the rows of its journal."""

import sys
import time
from collections.abc import Callable
from typing import IO, cast

from rich.console import Console, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from nanotx.course import Course, error, extent, gap, rate, readable
from nanotx.harmless import printable
from nanotx.journal import Row
from nanotx.outlet import Outlet

PAUSE = 5.0  # seconds between two plain lines of steps


class Display:
    """Shows rows as they come."""

    def __init__(self, console: Console | None = None, aside: Callable[[Row], str] | None = None) -> None:
        """With `aside`, what it makes of a row is told as well, where it makes anything of it."""
        self.aside, self.said = aside, ""
        self.console = console or Console(highlight=False, file=cast(IO[str], Outlet(sys.stdout)))
        self.course = Course()
        self.spoke = 0.0  # when the last plain line of a step was printed
        self.live: Live | None = None

    def say(self, text: str) -> None:
        """A line of its own, above the picture."""
        self.console.print(Text(printable(text)), soft_wrap=True)

    def shout(self, text: str, title: str) -> None:
        """A panel that cannot be missed."""
        self.console.print(Panel(Text(text), title=title, border_style="bold yellow"))

    def show(self, row: Row) -> None:
        """Take in what happened."""
        row = {key: printable(item) if isinstance(item, str) else item for key, item in row.items()}
        self.course.take(row)
        self.said = (self.aside(row) if self.aside else "") or self.said
        if self.live is None:
            self.plain(row)
            if self.aside and row["event"] == "eval":
                self.say(self.said)

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
        """Everything known, on one screen."""
        from nanotx.picture import picture  # plain lines need none

        return picture(self.course, self.said)

    def plain(self, row: Row) -> None:
        """One line, or a sample's several; steps only now and then."""
        event, course = row["event"], self.course
        if event in ("start", "resume"):
            self.say(course.title)
        elif event == "step" and time.monotonic() - self.spoke > PAUSE:
            self.spoke = time.monotonic()
            self.say(f"step {row['step']}/{course.steps}  {course.status()}")
        elif event == "eval":
            row = readable(row)
            floor = "" if course.floor is None else f"  floor {course.floor:.4f}"
            self.say(
                f"step {row['step']}/{course.steps}  validation loss {row['val_loss']:.4f}{error(row)}  "
                f"training loss {row['train_loss']:.4f}  gap {gap(row):+.4f}  "
                f"bits per byte {rate(row['bits_per_byte'])}{floor}{extent(row)}"
            )
        elif event == "sample":
            self.say(f"--- step {row['step']} writes:\n{row['text'].strip()}\n---")
        elif event == "warning":
            self.say(row["text"])
