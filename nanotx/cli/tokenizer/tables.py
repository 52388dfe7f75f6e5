"""The figures of a comparison as tables."""

from collections.abc import Callable, Mapping, Sequence

from rich.console import Console
from rich.text import Text

from nanotx.cli import tables
from nanotx.cli.tokenizer.measuring import Row

MOST = 10
"""Scripts that a table shows, those of the most bytes."""
LOUD = ("lost", "another text", "failed")
Cells = list[str]


def show(console: Console, rows: Sequence[Row], terminal: bool) -> None:
    """All tables, and below them what went wrong."""
    parts = scripts_of(rows)
    several = len(parts) > 1
    named = [("", sizes(rows)), ("", speeds(rows))]
    if several:
        named.append(("tokens per word, by script", by_script(rows, parts, "fertility")))
        named.append(("bytes per token, by script", by_script(rows, parts, "bytes_per_token")))
    for title, cells in named:
        tables.print_table(console, title, cells, terminal, LOUD)
    for row in rows:
        if row["error"]:
            console.print(Text(f"{row['name']}: {row['error']}", "red" if terminal else ""), soft_wrap=True)


def sizes(rows: Sequence[Row]) -> list[Cells]:
    """How much shorter each makes the text; a header and a row of cells for each tokenizer."""
    return _cells(
        rows,
        {
            "ids": lambda row: _figure(row["vocab_size"], ",d"),
            "tokens": lambda row: _figure(row["tokens"], ",d"),
            "bytes per token": lambda row: rate(row, row["bytes_per_token"]),
            "characters per token": lambda row: rate(row, row["characters_per_token"]),
            "tokens per word": lambda row: rate(row, row["fertility"]),
            "ids used": lambda row: _figure(row["vocabulary_used"], ".0%"),
        },
    )


def speeds(rows: Sequence[Row]) -> list[Cells]:
    """At what cost; a header and a row of cells for each tokenizer."""
    return _cells(
        rows,
        {
            "seconds to learn": lambda row: _figure(row["train_seconds"], ".3f"),
            "encode cold MB/s": lambda row: _figure(row["encode_cold_mb_per_second"], ",.1f"),
            "encode warm MB/s": lambda row: _figure(row["encode_mb_per_second"], ",.1f"),
            "decode warm MB/s": lambda row: _figure(row["decode_mb_per_second"], ",.1f"),
        },
    )


def _cells(rows: Sequence[Row], figures: Mapping[str, Callable[[Row], str]]) -> list[Cells]:
    return [["tokenizer", *figures], *([row["name"], *(cell(row) for cell in figures.values())] for row in rows)]


def by_script(rows: Sequence[Row], parts: Sequence[str], figure: str) -> list[Cells]:
    """A header and a row of cells for each tokenizer, a column for each script."""
    cells = [["tokenizer", *parts]]
    for row in rows:
        found = row["scripts"] or {}
        figures = (rate(row, found[one][figure] if one in found else None) for one in parts)
        cells.append([row["name"], *(cell.rpartition("% ")[2] for cell in figures)])  # how much stands above
    return cells


def scripts_of(rows: Sequence[Row]) -> list[str]:
    """The scripts that any tokenizer found, at most `MOST`, that of the most bytes first."""
    found: Row = next((row["scripts"] for row in rows if row["scripts"]), {})
    return list(found)[:MOST]


def rate(row: Row, figure: int | float | None) -> str:
    """A figure that is only fair where nothing of the text was lost; says so where it was."""
    if row["error"]:
        return "failed"
    if row["lost_characters"]:
        return f"{row['lost_characters']:.2%} lost"
    return _figure(figure, ".3f") if row["round_trips"] else "another text"


def _figure(value: int | float | None, style: str) -> str:
    return "-" if value is None else format(value, style)
