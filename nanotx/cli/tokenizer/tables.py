"""The figures of a comparison as tables."""

from collections.abc import Callable, Mapping, Sequence

from rich.console import Console
from rich.text import Text

from nanotx.cli import tables
from nanotx.cli.tokenizer.measuring import Row

MAX_SCRIPTS = 10
"""Maximum number of scripts in a table: those with the most bytes."""
LOUD = ("lost", "another text", "failed")
Cells = list[str]


def show(console: Console, rows: Sequence[Row], terminal: bool) -> None:
    """Print all tables, and the errors below them."""
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
    """Return the compression of each tokenizer: a header, and a row per tokenizer."""
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
    """Return the speed of each tokenizer: a header, and a row per tokenizer."""
    return _cells(
        rows,
        {
            "seconds to train": lambda row: _figure(row["train_seconds"], ".3f"),
            "encode cold MB/s": lambda row: _figure(row["encode_cold_mb_per_second"], ",.1f"),
            "encode warm MB/s": lambda row: _figure(row["encode_mb_per_second"], ",.1f"),
            "decode warm MB/s": lambda row: _figure(row["decode_mb_per_second"], ",.1f"),
        },
    )


def _cells(rows: Sequence[Row], figures: Mapping[str, Callable[[Row], str]]) -> list[Cells]:
    return [["tokenizer", *figures], *([row["name"], *(cell(row) for cell in figures.values())] for row in rows)]


def by_script(rows: Sequence[Row], parts: Sequence[str], figure: str) -> list[Cells]:
    """Return a figure by script: a header, and a row per tokenizer."""
    cells = [["tokenizer", *parts]]
    for row in rows:
        scripts = row["scripts"] or {}
        figures = (rate(row, scripts[name][figure] if name in scripts else None) for name in parts)
        cells.append([row["name"], *(cell.rpartition("% ")[2] for cell in figures)])  # the share is in the tables above
    return cells


def scripts_of(rows: Sequence[Row]) -> list[str]:
    """Return the scripts of the text, at most `MAX_SCRIPTS`, that with the most bytes first."""
    scripts: Row = next((row["scripts"] for row in rows if row["scripts"]), {})
    return list(scripts)[:MAX_SCRIPTS]


def rate(row: Row, figure: int | float | None) -> str:
    """Return a figure as text; where the tokenizer loses text, how much it loses instead."""
    if row["error"]:
        return "failed"
    if row["lost_characters"]:
        return f"{row['lost_characters']:.2%} lost"
    return _figure(figure, ".3f") if row["round_trips"] else "another text"


def _figure(value: int | float | None, style: str) -> str:
    return "-" if value is None else format(value, style)
