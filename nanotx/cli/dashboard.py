"""The dashboard: a run as it is trained, live on a terminal and as plain lines elsewhere."""

import sys
import time
from collections import deque
from threading import Event, RLock, Thread
from typing import IO, cast

from rich.console import Console, Group, RenderableType
from rich.control import Control
from rich.live import Live
from rich.panel import Panel
from rich.segment import ControlType
from rich.text import Text

from nanotx.cli.chart import ASCII, UNICODE
from nanotx.cli.console import SafeStream
from nanotx.cli.picture import Lines, Present, picture_lines
from nanotx.errors import printable
from nanotx.hardware.memory import used_memory
from nanotx.runs.history import History, error, extent, gap, rate, readable, reads_training
from nanotx.runs.metrics_log import Row

PAUSE = 5.0  # seconds between two plain lines of steps

REFRESH = 0.25
"""Seconds between two pictures, at least."""

SHARE = 0.004
"""The share of the time that drawing may take: where pictures take long, there are fewer."""

GIB = 2**30


class Display:
    """Shows rows as they come."""

    def __init__(self, console: Console | None = None) -> None:
        self.noted = ""  # a line below the figures
        self.busy = self.draft = ""  # what the run does between two rows, and the text of the sample so far
        self.console = console or Console(highlight=False, file=cast(IO[str], SafeStream(sys.stdout)))
        self.history = History()
        self.last_printed = 0.0  # when the last plain line of a step was printed
        self.live: LivePicture | None = None
        self.lock = RLock()  # of what a picture shows

    def say(self, text: str) -> None:
        """Print a line above the live display."""
        text = printable(text)
        self.put(Text(text.replace("±", "+/-") if self.console.options.ascii_only else text))

    def shout(self, text: str, title: str) -> None:
        """Print a prominent panel."""
        self.put(Panel(Text(text), title=title, border_style="bold yellow"))

    def put(self, what: RenderableType) -> None:
        """Print something above the live display."""
        if self.live is None:
            self.console.print(what, soft_wrap=isinstance(what, Text))
        else:
            self.live.put(what)

    def note(self, text: str) -> None:
        """Show a line below the figures, until the next one; as plain lines, after the row that comes next."""
        self.noted = printable(text)

    def doing(self, what: str, text: str = "") -> None:
        """Show what the run does until the next row: an evaluation, or a sample with its text so far."""
        self.busy, self.draft = what, text

    def recall(self, rows: list[Row]) -> None:
        """Show the earlier rows of a run that is resumed."""
        with self.lock:
            self.history.recall(map(printable_row, rows))

    def show(self, row: Row) -> None:
        """Show a row.

        Raises:
            Exception: the live display has failed; from here on there are plain lines.
        """
        row = printable_row(row)
        with self.lock:
            self.history.take(row)
            self.busy = self.draft = ""
        if self.live is not None:
            if failed := self.live.failed:
                self.close()
                raise failed
            if row["event"] in ("start", "resume"):
                self.say(self.history.title)
        else:
            self.plain(row)
            if self.noted:
                self.say(self.noted)
                self.noted = ""

    def __enter__(self) -> "Display":
        if self.console.is_terminal and not self.console.is_dumb_terminal:
            self.live = LivePicture(self)
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.busy = self.draft = ""
        self.close()

    def close(self) -> None:
        """End the live display; its last picture stays."""
        if self.live is not None:
            live, self.live = self.live, None
            live.stop()

    def present(self, now: float, titled: bool = False) -> Present:
        """Return what a picture shows besides the rows."""
        return Present(
            now=now, titled=titled, note=self.noted, busy=self.busy, draft=self.draft, memory=memory_figure()
        )

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
            training = f"training loss {row['train_loss']:.4f}  gap {gap(row):+.4f}  " if reads_training(row) else ""
            best = "  best so far" if history.best.get("step") == row["step"] and len(history.evals) > 1 else ""
            self.say(
                f"step {row['step']}/{history.steps}  validation loss {row['val_loss']:.4f}{error(row)}  "
                f"{training}bits per byte {rate(row['bits_per_byte'])}{floor}{extent(row)}{best}"
            )
        elif event == "sample":
            self.say(f"--- step {row['step']} writes:\n{row['text'].strip()}\n---")
        elif event == "warning":
            self.say(row["text"])


class LivePicture:
    """A picture in place at the bottom of the terminal, which a thread draws again while the run trains.

    The thread draws a few times per second where something has changed, and less often where that would take more than
    a small share of the time. When the size of the terminal changes, it clears it, as no two terminals agree on where
    the lines of the old picture are then.
    """

    def __init__(self, display: Display) -> None:
        self.display, self.console = display, display.console
        self.failed: Exception | None = None
        self.live = Live(get_renderable=self.render, console=self.console, auto_refresh=False, vertical_overflow="crop")
        self.above: deque[RenderableType] = deque(maxlen=100)  # what was printed above the picture
        self.size = self.console.size
        self.shown: tuple[object, ...] = ()  # what the last picture was drawn from
        self.stopping = Event()
        self.thread = Thread(target=self.run, name="dashboard", daemon=True)

    def start(self) -> None:
        """Begin to draw."""
        self.live.start()
        self.thread.start()

    def stop(self) -> None:
        """Draw the last picture, and leave it."""
        self.stopping.set()
        if self.thread.is_alive():
            self.thread.join()
        self.live.stop()

    def put(self, what: RenderableType) -> None:
        """Print something above the picture."""
        self.above.append(what)
        self.console.print(what, soft_wrap=isinstance(what, Text))

    def run(self) -> None:
        """Draw until the end, or until drawing fails."""
        pause = REFRESH
        while not self.stopping.wait(pause) and self.failed is None:
            began = time.thread_time()
            try:
                self.refresh()
            except Exception as error:  # whatever it is, it must not harm the run
                self.failed = error
            pause = max(REFRESH, (time.thread_time() - began) / SHARE)

    def refresh(self) -> None:
        """Draw again if anything has changed."""
        display, size = self.display, self.console.size
        if size != self.size:
            self.size, self.shown = size, ()
            self.console.control(Control((ControlType.HOME,), (ControlType.CLEAR,)))
            if self.above:
                self.console.print(Group(*self.above), soft_wrap=True)
        shown = (int(time.monotonic()), display.history.now, display.busy, display.draft, display.noted)
        if shown != self.shown:
            self.shown = shown
            self.live.refresh()

    def render(self) -> RenderableType:
        """Return the picture of this moment; an empty one if it cannot be drawn."""
        display = self.display
        if self.failed is not None:
            return ""
        try:
            glyphs = ASCII if self.console.options.ascii_only or self.console.legacy_windows else UNICODE
            width, height = self.console.size
            with display.lock:
                present = display.present(time.monotonic())
                lines = picture_lines(display.history, present, width, max(1, height - 2), glyphs)
            return Lines([*lines, []]) if lines else ""  # the last line takes the ^C that a terminal prints
        except Exception as error:
            self.failed = error
            return ""


class Silent:
    """Shows nothing."""

    def say(self, text: str) -> None:
        """Print nothing."""

    def shout(self, text: str, title: str) -> None:
        """Print nothing."""

    def note(self, text: str) -> None:
        """Print nothing."""

    def doing(self, what: str, text: str = "") -> None:
        """Show nothing."""

    def recall(self, rows: list[Row]) -> None:
        """Show nothing."""

    def show(self, row: Row) -> None:
        """Show nothing."""

    def __enter__(self) -> "Silent":
        return self

    def __exit__(self, *_: object) -> None:
        pass


def printable_row(row: Row) -> Row:
    """Return a row whose texts cannot command a terminal."""
    return {key: printable(item) if isinstance(item, str) else item for key, item in row.items()}


def memory_figure() -> str:
    """Return the memory that this process holds, and on the GPU at most held; "" if it is unknown."""
    process, gpu = used_memory()
    texts = [f"memory {process / GIB:.2f} GiB"] if process else []
    return "  ".join([*texts, *([f"GPU memory {gpu / GIB:.2f} GiB"] if gpu else [])])
