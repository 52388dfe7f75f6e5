"""The figures of `training.py` for people."""

from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness import Row
from harness.laws import PASS

Cell = Callable[[Row], str]


def figure(key: str, style: str) -> Cell:
    """A number of a row in a style; a dash where it is not known."""

    def cell(row: Row) -> str:
        return "-" if row[key] is None else format(row[key], style)

    return cell


def loss(row: Row) -> str:
    """A mean, and how far its interval reaches; a single figure says that it is one."""
    if row["val_loss"] is None:
        return "-"
    far = row["val_loss_interval"]
    return f"{row['val_loss']:.4f} " + ("1 seed" if far is None else f"±{far:.4f}")


def target(row: Row) -> str:
    """The seconds to the target, or how near it came."""
    if row["target"] is None or row["reached"] is None:
        return "-"
    if row["target_seconds"] is not None:
        return f"{row['target_seconds']:.1f} to {row['target']:g}"
    return f"{row['reached']}/{len(row['seeds'])}, {row['nearest'] - row['target']:+.4f}"


def kind(row: Row) -> str:
    """In which numbers, and whether compiled."""
    return "-" if row["dtype"] is None else row["dtype"] + (" compiled" if row["compiled"] is True else "")


def laws(row: Row) -> str:
    """Whether it was shown to be the reference's equal."""
    return "pass" if row["laws"] == PASS else "failed"


STEPS: dict[str, Cell] = {
    "ms": figure("median_ms", ".2f"),
    "iqr": figure("iqr_ms", ".2f"),
    "tokens/s": figure("tokens_per_second", ",.0f"),
    "MFU": figure("mfu", ".1%"),
    "speed": figure("speedup", ".2f"),
    "MB": figure("memory_mb", ",.0f"),
    "start s": figure("start_seconds", ".1f"),
    "compile s": figure("compile_seconds", ".1f"),
    "loss": loss,
    "target s": target,
    "laws": laws,
}
RUNS: dict[str, Cell] = {
    "loss": loss,
    "wall s": figure("wall_seconds", ".1f"),
    "target s": target,
    "start s": figure("start_seconds", ".1f"),
    "compile s": figure("compile_seconds", ".1f"),
    "tokens/s": figure("tokens_per_second", ",.0f"),
    "MFU": figure("mfu", ".1%"),
    "MB": figure("memory_mb", ",.0f"),
}
ABOUT_STEPS = (
    "speed: in times of nanotx_plain's, the middle over the rounds. MB: the peak of the first steps. start: from "
    "nothing to the end of the first step, nothing compiled. loss: mean of the seeds ± 95% interval."
)
ABOUT_RUNS = (
    "loss: mean of the seeds ± 95% interval. wall, target, start: from before the process starts. target: or how "
    "many seeds reached it, and how near they came."
)


def show(machine: Row, rows: Sequence[Row]) -> None:
    """A table for each dropout and one of whole runs; what broke a law is told below, in full."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 160
    console.print(Text(f"{machine['cpu']}, {machine['threads']} threads, torch {machine['torch']}"))
    steps = [row for row in rows if row["pass"] == "step"]
    for device, share in dict.fromkeys((row["device"], row["dropout"]) for row in steps):
        these = [row for row in steps if (row["device"], row["dropout"]) == (device, share)]
        one = these[0]
        size = f"{one['layers']} layers, {one['batch']}x{one['time']}x{one['dim']}, {one['heads']} heads"
        title = f"A step of {one['shape']} on {device}: {size}, dropout {share:g}"
        console.print(table(title, STEPS, these, ABOUT_STEPS))
    if runs := [row for row in rows if row["pass"] == "run"]:
        console.print(table("Whole runs", RUNS, runs, ABOUT_RUNS))
    for text in dict.fromkeys(f"{row['name']}: {row['laws']}" for row in steps if row["laws"] != PASS):
        console.print(Text(text, "red"), soft_wrap=True)


def table(title: str, columns: dict[str, Cell], rows: Sequence[Row], about: str) -> Table:
    """Rows by name."""
    made = Table(title=title, title_justify="left", caption=about, caption_justify="left")
    made.add_column("name")
    made.add_column("in")
    for name in columns:
        made.add_column(name, justify="right")
    for row in rows:
        cells: list[Any] = [cell(row) for cell in columns.values()]
        made.add_row(row["name"], kind(row), *cells)
    return made
