"""The dashboard in a notebook: one output of the cell, which is updated in place."""

import io
import re
import sys
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console, Group, RenderableType

from nanotx.cli.dashboard import SHARE, Display, printable_row
from nanotx.cli.picture import Picture
from nanotx.runs.metrics_log import Row

PAUSE = 0.25  # seconds between two updates by steps
WIDTH = 100  # columns of the picture
HEIGHT = 36  # its lines at most

HTML = '<pre style="font-family: monospace; line-height: 1.25; white-space: pre; overflow-x: auto">{code}</pre>'
"""What surrounds the picture; it sets no colours, so that it suits light and dark pages."""


def run_display() -> Display:
    """Return the display of a run that a program started: in a notebook one that is updated in place."""
    if not in_notebook():
        return Display()
    from IPython.display import display  # in a notebook it is there

    return NotebookDisplay(display)


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook."""
    shell = sys.modules.get("ipykernel.zmqshell")
    return shell is not None and bool(shell.ZMQInteractiveShell.initialized())


class NotebookDisplay(Display):
    """Shows all lines and figures of a run as one output."""

    def __init__(self, display: Callable[..., Any]) -> None:
        """Prepare to show.

        Args:
            display: `IPython.display.display`.
        """
        super().__init__(Console(file=io.StringIO(), width=WIDTH))
        self.display = display
        self.handle: Any = None  # of the output, once it is shown
        self.above: list[RenderableType] = []  # what was printed before the end of the run
        self.below: list[RenderableType] = []  # what was printed after it
        self.ended, self.updated = False, 0.0
        self.pause = PAUSE  # seconds until the next update by steps

    def show(self, row: Row) -> None:
        """Show a row; those of steps a few times per second."""
        self.history.take(printable_row(row))
        self.busy = self.draft = ""
        if row["event"] != "step" or time.monotonic() - self.updated > self.pause:
            self.update()

    def doing(self, what: str, text: str = "") -> None:
        """Show what the run does until the next row; a text that grows is shown a few times per second."""
        super().doing(what, text)
        if time.monotonic() - self.updated > self.pause:
            self.update()

    def __enter__(self) -> "NotebookDisplay":
        return self

    def __exit__(self, *_: object) -> None:
        self.busy = self.draft = ""
        self.update()
        self.ended = True

    def put(self, what: RenderableType) -> None:
        """Add something above the figures, or below them once the run has ended."""
        (self.below if self.ended else self.above).append(what)
        self.update()

    def update(self) -> None:
        """Show the run as it is now, in place of what was shown."""
        began = time.thread_time()
        present = self.present(time.monotonic(), titled=True)
        figures = [Picture(history=self.history, present=present, height=HEIGHT)] if self.history.title else []
        both = both_forms(Group(*self.above, *figures, *self.below))
        if self.handle is None:
            self.handle = self.display(both, raw=True, display_id=True)
        else:
            self.handle.update(both, raw=True)
        self.updated = time.monotonic()
        self.pause = max(PAUSE, (time.thread_time() - began) / SHARE)


BLOCK = '<span style="display: inline-block; width: {width}ch; overflow: hidden; vertical-align: top">{text}</span>'
BRAILLE = re.compile("[\u2800-\u28ff]+")
"""Characters of a curve, which browsers often take from another font, of another width."""


def both_forms(what: RenderableType) -> dict[str, str]:
    """Return a picture as HTML and as plain text, by their media types."""
    console = Console(file=io.StringIO(), record=True, width=WIDTH, force_terminal=True, force_jupyter=False)
    console.print(what)
    html = console.export_html(inline_styles=True, code_format=HTML, clear=False)
    in_columns = BRAILLE.sub(lambda run: BLOCK.format(width=len(run[0]), text=run[0]), html)
    return {"text/html": in_columns, "text/plain": console.export_text()}
