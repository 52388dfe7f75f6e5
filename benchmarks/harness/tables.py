"""Rows as tables that fit a screen; what was measured in several places stands side by side."""

from collections.abc import Callable, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.reporting import PASS, Row

WIDTH = 120
"""Of what is printed where there is no terminal."""
Place = tuple[int, str]
"""The number of a machine, and a device of it."""
Cell = Callable[[Row], Text]


def show(machines: Sequence[Row], rows: Sequence[Row], about: str) -> None:
    """All rows, a table for each slot, shape, pass and dtype; below them in full what broke a law."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    places = named_places(rows)
    for number, machine in enumerate(machines):
        names = ", ".join(name for place, name in places.items() if place[0] == number)
        console.print(Text(f"{names}: {described(machine)}"), soft_wrap=True)
    for group in grouped(rows):
        here = {one: name for one, name in places.items() if one in map(place, group)}
        console.print(one_place(group, *here.values()) if len(here) == 1 else side_by_side(group, here))
    console.print(Text(about, "dim"))
    for name, verdict in dict.fromkeys((row["name"], row["laws"]) for row in rows if row["laws"] != PASS):
        console.print(Text(f"{name}: {verdict}", style_of(verdict)), soft_wrap=True)


def described(machine: Row) -> str:
    """A machine in a line."""
    device = ", ".join(filter(None, (machine["gpu"], machine["cpu"])))
    peaks = [f"{name} {peak / 1e9:,.0f} GFLOP/s" for name, peak in machine["peak_flops"].items()]
    return f"{device}, {machine['threads']} threads, torch {machine['torch']}; matrix products: {', '.join(peaks)}"


def named_places(rows: Sequence[Row]) -> dict[Place, str]:
    """Each place that rows come from, by its device; numbered where several machines have one."""
    places = list(dict.fromkeys(place(row) for row in rows))
    devices = [device for _, device in places]
    return {(at, name): f"{name} {at + 1}" if devices.count(name) > 1 else name for at, name in places}


def place(row: Row) -> Place:
    """Where a row was measured."""
    return row.get("machine", 0), row["device"]


def grouped(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows of each table."""
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault((row["slot"], row["shape"], row["pass"], row["dtype"]), []).append(row)
    return list(groups.values())


def one_place(rows: Sequence[Row], where: str) -> Table:
    """All figures of rows from one place."""
    first = rows[0]
    ratios = {key: key.removeprefix("ratio_to_").replace("_", "\n", 1) for key in first if key.startswith("ratio_to_")}
    columns: dict[str, Cell] = {
        "ms": figure("median_ms", ",.3f"),
        "iqr": figure("iqr_ms", ".3f"),
        "tokens/s": figure("tokens_per_second", ",.0f"),
        "MB": figure("memory_mb", ",.1f"),
        "GFLOP/s": figure("flops_per_second", ",.0f", 1e-9),
        "of\npeak": figure("peak_share", ".0%"),
        f"x {first['reference']}": figure("ratio", ".3f"),
        **{f"x {name}": figure(key, ".3f") for key, name in ratios.items()},
        "compile\ns": figure("compile_seconds", ".1f"),
        "laws": laws,
        "cases": figure("cases", ",d"),
        "kernel": kernel,
    }
    title = f"{first['slot']}, {first['shape']}: {sizes(first)}, {first['pass']}, {first['dtype']} on {where}"
    table = titled(title, [head for head, cell in columns.items() if any(cell(row).plain != NONE for row in rows)])
    for row in rows:
        table.add_row(called(row), *(columns[str(column.header)](row) for column in table.columns[1:]))
    return table


def side_by_side(rows: Sequence[Row], places: dict[Place, str]) -> Table:
    """The main figures of each place beside those of the others."""
    first = rows[0]
    columns: dict[str, Cell] = {
        "ms": figure("median_ms", ",.3f"),
        "tokens/s": figure("tokens_per_second", ",.0f"),
        "MB": figure("memory_mb", ",.0f"),
        f"x {first['reference']}": figure("ratio", ".2f"),
        "laws": laws,
    }
    if len(places) > 2:
        del columns["MB"]
    found = {(row["name"], row["compiled"], place(row)): row for row in rows}
    shapes = "; ".join(dict.fromkeys(f"{places[place(row)]} {sizes(row)}" for row in rows))
    title = f"{first['slot']}, {first['shape']}: {shapes}; {first['pass']}, {first['dtype']}"
    table = titled(title, [f"{name}\n{head}" for name in places.values() for head in columns])
    for name, compiled in dict.fromkeys((row["name"], row["compiled"]) for row in rows):
        mine = [found.get((name, compiled, where)) for where in places]
        cells = [cell(row) if row else Text(NONE) for row in mine for cell in columns.values()]
        table.add_row(called({"name": name, "compiled": compiled}), *cells)
    return table


def titled(title: str, heads: Sequence[str]) -> Table:
    """An empty table: a column of names, and one of figures for each head."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    return table


# Cells.

NONE = "-"


def sizes(row: Row) -> str:
    """A row's shape."""
    return f"{row['batch']} x {row['time']} x {row['dim']}, {row['heads']} heads"


def called(row: Row) -> Text:
    """A part's name; below it, itself compiled."""
    return Text("  compiled", "dim") if row["compiled"] else Text(row["name"])


def figure(key: str, style: str, unit: float = 1) -> Cell:
    """A number, or that there is none."""
    return lambda row: Text(NONE if row[key] is None else format(unit * row[key] if unit != 1 else row[key], style))


def laws(row: Row) -> Text:
    """How many were passed of how many were tried; or why none was timed."""
    word, counted = row["laws"].partition(":")[0], f"{row['laws_passed']}/{row['laws_tried']}"
    return Text({PASS: counted, "failed": f"failed {counted}"}.get(word, word), style_of(word))


def style_of(verdict: str) -> str:
    """Green for what holds, red for what was broken, yellow for what was not tried."""
    return {PASS: "green", "failed": "bold red"}.get(verdict.partition(":")[0], "yellow")


def kernel(row: Row) -> Text:
    """The kernel that ran forward; and that of the pass backward, where it was another."""
    both = dict.fromkeys(filter(None, (row["kernel"], row["kernel_backward"])))
    return Text(", ".join(both) or NONE)
