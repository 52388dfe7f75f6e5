"""A bar on standard error, where that is a terminal: how much of some files is done."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from nanotx.text_files import blocks


class Bar:
    """What `bar` gives."""

    def __init__(self, progress: Progress, total: int) -> None:
        self.progress = progress
        self.task = progress.add_task("reading", total=total)

    def at(self, done: int) -> None:
        """So many bytes are done."""
        self.progress.update(self.task, completed=done)

    def now(self, what: str) -> None:
        """Something else begins, of which nobody knows how long it takes."""
        self.progress.update(self.task, description=what, total=None)

    def reading(self, files: Iterable[Path], errors: str, cuts: bool) -> Iterator[str]:
        """The texts of the files in blocks; when they are read, the learning is all that is left."""
        before = 0
        for file in files:
            for text, end in blocks(file, cuts=cuts, errors=errors):
                yield text
                self.at(before + end)
            before += file.stat().st_size
        self.now("learning")


@contextmanager
def bar(files: Iterable[Path]) -> Iterator[Bar]:
    """A bar as long as the files together."""
    console = Console(stderr=True)
    columns = [TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()]
    with Progress(
        *columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        yield Bar(progress, sum(file.stat().st_size for file in files))
