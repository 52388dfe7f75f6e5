"""What a benchmark says: in strict JSON for programs, in a table for people."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from nanotx.errors import RunError

Row = dict[str, Any]
PASS = "pass"


# For programs.


def open_json(path: str, flag: str = "--json") -> Path | None:
    """The file for the figures, known to be writable before an hour is spent on them; None for no name.

    Raises:
        RunError: it cannot be written.
    """
    if not path:
        return None
    file = Path(path)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.open("a", encoding="utf-8").close()
    except OSError as error:
        raise RunError(f"{flag} {path}: cannot be written: {error.strerror}.") from None
    return file


def write_json(file: Path | None, machine: Row, rows: Sequence[Row], machines: Sequence[Row] = ()) -> None:
    """Strict JSON: what is not known is null. Rows of several machines say by its number which one is theirs."""
    if file:
        answer = {"machine": machine, **({"machines": list(machines)} if len(machines) > 1 else {}), "rows": list(rows)}
        text = json.dumps(answer, indent=1, allow_nan=False)
        file.write_text(text + "\n", encoding="utf-8", newline="\n")


# For people.


class Teller:
    """Says what is being done now, on the standard error: a bar on a terminal, lines elsewhere."""

    def __init__(self, total: int, bar: Progress) -> None:
        self.total, self.done, self.bar = total, 0, bar
        self.task = bar.add_task("", total=total)

    def __call__(self, text: str) -> None:
        """The next thing begins."""
        self.bar.update(self.task, description=text, completed=self.done)
        self.done += 1
        if self.bar.disable:
            self.bar.console.print(Text(f"{self.done}/{self.total}  {text}"), soft_wrap=True)


@contextmanager
def telling(total: int) -> Iterator[Teller]:
    """For so many things to do."""
    console = Console(stderr=True, highlight=False)
    columns = (BarColumn(24), TextColumn("{task.completed}/{task.total}  {task.description}"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        yield Teller(total, bar)


def show_tokenizers(machine: Row, rows: Sequence[Row]) -> None:
    """The figures of `tokenization.py`; what broke a law, or gave other ids, is told below them."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 160
    console.print(Text(f"{machine['cpu']}, {machine['cores']} cores"))
    table = Table(caption=TOKENIZERS, caption_justify="left")
    for name in ("task", "name", "text"):
        table.add_column(name)
    for name in ("MB", "ids", "threads", "state", "ms", "iqr", "MB/s", "x", "of", "hits", "memory"):
        table.add_column(name, justify="right")
    group: tuple[object, ...] = ()
    for row in rows:
        here = tuple(row[key] for key in ("task", "text", "megabytes", "vocab_size", "state"))
        if group and here != group:
            table.add_section()
        group = here
        figures = [row[key] if row[key] is None else format(row[key], style) for key, style in SPEEDS.items()]
        rate, ratio, hits, memory = figures[2:]
        about = [row["task"], row["name"], row["text"], f"{row['megabytes']:.1f}", str(row["vocab_size"])]
        cells = [*about, str(row["threads"]), row["state"], *figures[:2], rate, ratio, row["reference"], hits, memory]
        table.add_row(*("-" if one is None else one for one in cells))
    console.print(table)
    for text in dict.fromkeys(f"{row['task']}, {row['text']}: {row['laws']}" for row in rows if row["laws"] != PASS):
        console.print(Text(text, "red"), soft_wrap=True)


SPEEDS = {
    "median_ms": ",.1f",
    "iqr_ms": ",.1f",
    "megabytes_per_second": ",.1f",
    "ratio": ".2f",
    "hits": ".1%",
    "memory_mb": ",.0f",
}
TOKENIZERS = (
    "ms: median, and iqr how wide the middle half lies. x: how long it takes in times of the one named beside it. "
    "cold: all that is remembered empty, warm: after the same text. hits: parts of the text that were remembered. "
    "memory: the most MB above an empty process."
)
