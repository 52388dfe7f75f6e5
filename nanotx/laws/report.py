"""Verdicts as a table: a row per part, a column per law, the number of cases and the time that they took."""

from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from nanotx.laws.runner import Verdict


def tables(verdicts: Sequence[Verdict], console: Console) -> RenderableType:
    """Return one table per slot; if the terminal is too narrow for it, one line per part."""
    by_slot: dict[str, dict[str, list[Verdict]]] = {}
    for verdict in verdicts:
        by_slot.setdefault(verdict.part.partition("/")[0], {}).setdefault(verdict.part, []).append(verdict)
    shown: list[RenderableType] = []
    for parts in by_slot.values():
        table = wide_table(parts)
        fits = Measurement.get(console, console.options.update(width=1000), table).maximum <= console.width
        shown.append(table if fits else narrow_table(parts))
    return Group(*shown)


def wide_table(parts: dict[str, list[Verdict]]) -> Table:
    """Return a table with a row per part and a column per law."""
    laws = list(dict.fromkeys(verdict.law for verdicts in parts.values() for verdict in verdicts))
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column(next(iter(parts)).partition("/")[0], no_wrap=True)
    for name in (*laws, "cases", "s"):
        table.add_column(name, justify="right", no_wrap=True)
    for part, verdicts in parts.items():
        by_law = {verdict.law: verdict for verdict in verdicts}
        table.add_row(
            part.partition("/")[2] or part,
            *(format_verdict(by_law.get(law)) for law in laws),
            format_total(verdicts),
            total_seconds(verdicts),
        )
    return table


def narrow_table(parts: dict[str, list[Verdict]]) -> Table:
    """Return a table with a row per part and all its laws in one column."""
    table = Table.grid(padding=(0, 2))
    for part, verdicts in parts.items():
        broken = [verdict.law for verdict in verdicts if verdict.broken]
        held = sum(verdict.passed for verdict in verdicts)
        words = Text(f"breaks {', '.join(broken)}", "bold red") if broken else Text(f"{held} laws hold", "green")
        table.add_row(part, words if held or broken else "", format_total(verdicts), total_seconds(verdicts) + " s")
    return table


def format_verdict(verdict: Verdict | None) -> Text:
    """Return the cell of one law on one part: the number of cases that hold, or after which it breaks."""
    if verdict is None or verdict.skipped:
        return Text("·", "dim")
    return Text(f"✗{verdict.cases}", "bold red") if verdict.broken else Text(f"{verdict.cases}", "green")


def format_total(verdicts: Sequence[Verdict]) -> Text:
    """Return the number of all cases of a part, or why there were none."""
    reasons = list(dict.fromkeys(verdict.skipped for verdict in verdicts if verdict.skipped))
    if reasons:
        return Text(", ".join(reasons), "yellow")
    return Text(f"{sum(verdict.cases for verdict in verdicts):,}")


def total_seconds(verdicts: Sequence[Verdict]) -> str:
    """Return the seconds that all laws of a part took."""
    return f"{sum(verdict.seconds for verdict in verdicts):.1f}"
