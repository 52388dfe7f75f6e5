"""The figures of `sampling.py` as a table."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness import Row
from harness.laws import PASS


def show(machine: Row, rows: list[Row]) -> None:
    """The figures as a table; what broke a law is told below it, in full."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 140
    console.print(Text(f"{machine['cpu']}, {machine['threads']} threads, torch {machine['torch']}"))
    table = Table(caption=ABOUT, caption_justify="left")
    for head in ("name", "device", "texts", "ms/token", "iqr", "tokens/s", *COLUMNS, "laws"):
        table.add_column(head, justify="left" if head in ("name", "device") else "right")
    for row in rows:
        cells = [row["name"], row["device"], str(row["batch"])]
        for key, style in {"median_ms": ".3f", "iqr_ms": ".3f", "tokens_per_second": ",.0f"}.items():
            cells.append("-" if row[key] is None else format(row[key], style))
        for key, style, inverse in COLUMNS.values():
            value = row[key] and (1 / row[key] if inverse else row[key])
            cells.append("-" if value is None else format(value, style))
        laws = Text(f"{row['cases']} cases", "green") if row["laws"] == PASS else Text("failed", "bold red")
        table.add_row(*cells, laws)
    console.print(table)
    for row in rows:
        if row["laws"] != PASS:
            console.print(Text(f"{row['name']}: {row['laws']}", "red"), soft_wrap=True)


COLUMNS = {
    "x uncached": ("ratio_to_uncached", ".1f", True),
    "x cached": ("ratio_to_cached", ".2f", True),
    "x theirs": ("ratio", ".2f", True),
    "of memory": ("bandwidth_share", ".0%", False),
    "accepted": ("accepted", ".0%", False),
}
"""The key of each, how it is written, and whether the table shows speeds where the rows hold times."""
ABOUT = (
    "x: how many times as fast. of memory: the bytes that a token needs, weights and cache, as a share of what plain "
    "reading reaches here. accepted: of the draft's guesses, at temperature 0.8 as all that is timed."
)
