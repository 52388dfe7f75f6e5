"""Rows as tables for people; below them, in full, why something was not timed."""

from collections.abc import Callable, Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness import Row
from harness.laws import PASS

Cell = Callable[[Row], Text]
NONE = "-"


def open_console(width: int = 120) -> Console:
    """Return the console to print on, of this width where there is no terminal."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = width
    return console


def print_table(console: Console, title: str, columns: Mapping[str, Cell], rows: Sequence[Row], left: int = 1) -> None:
    """Print a table; columns without a single figure are left out.

    Args:
        console: from `open_console`.
        title: a line above the table.
        columns: by their heads, from a row to a cell.
        rows: from top to bottom.
        left: the number of left-aligned columns.
    """
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    cells = {head: [cell(row) for row in rows] for head, cell in columns.items()}
    shown = {head: column for head, column in cells.items() if any(cell.plain != NONE for cell in column)}
    for index, head in enumerate(shown):
        table.add_column(head, justify="left" if index < left else "right", no_wrap=True)
    for row in zip(*shown.values(), strict=True):
        table.add_row(*row)
    console.print(Text(title, "bold"), soft_wrap=True)
    console.print(table)


def print_notes(console: Console, about: str, rows: Sequence[Row]) -> None:
    """Print what the columns mean, and each verdict that is not "pass"."""
    console.print(Text(about, "dim"))
    for name, verdict in dict.fromkeys((row["name"], row["laws"]) for row in rows if row["laws"] != PASS):
        console.print(Text(f"{name}: {verdict}", verdict_style(verdict)), soft_wrap=True)


def verdict_style(verdict: str) -> str:
    """Return green for "pass", red for a broken law, yellow for what was not tried."""
    return {PASS: "green", "failed": "bold red"}.get(verdict.partition(":")[0], "yellow")


def word(key: str) -> Cell:
    """Return a cell that shows a field as it is."""
    return lambda row: Text(NONE if row.get(key) is None else str(row[key]))


def number(key: str, style: str, scale: float = 1) -> Cell:
    """Return a cell that shows a number in a format."""

    def cell(row: Row) -> Text:
        value = row.get(key)
        return Text(NONE if value is None else format(value if scale == 1 else scale * value, style))

    return cell


def laws(row: Row) -> Text:
    """Return how many laws passed of those tried, or of how many cases; or why there is no time."""
    kind = row["laws"].partition(":")[0]
    counted = f"{row['laws_passed']}/{row['laws_tried']}" if "laws_tried" in row else f"{row['cases']} cases"
    failed = f"failed {counted}" if "laws_tried" in row else "failed"
    return Text({PASS: counted, "failed": failed}.get(kind, kind), verdict_style(row["laws"]))
