"""List runs: how they differ, and what they reached."""

import csv
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from nanotx.cli import tables
from nanotx.cli.console import check_output, write_json
from nanotx.config.flags import argument, option, parse, repeated
from nanotx.errors import ConfigError, RunError, printable, shell_quoted
from nanotx.files import write_atomic
from nanotx.runs.history import clock
from nanotx.runs.run_table import (
    FIGURES,
    RunRow,
    Scalar,
    check_column,
    differing,
    experiment_of,
    find_runs,
    incomparable,
    read_condition,
    read_run,
    sort_runs,
)

USAGE = "[DIR ...]"
GROUP = "Use a run"
ORDER = 24


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Print a table of runs: the fields of their recipes in which they differ, and what each reached.

    A column is a field of the recipe as flags spell it, such as ffn, attention.heads or train.steps; a figure of
    summary.json or of the newest evaluation, such as val_loss; or a metric that a part or a callback added. Of the runs
    of an experiment (nanotx compare, sweep, tune, scaling, prove) only their number is printed, unless its folder is
    named.

        nanotx runs
        nanotx runs --where ffn=relu2 --where 'val_loss<1.6' --sort val_loss
        nanotx runs runs/sweep --columns lr,val_loss,val_stderr --csv sweep.csv
        nanotx runs --plot curves.png
    """

    folders: tuple[str, ...] = argument("DIR ...", default=("runs",))  # folders of runs, or runs
    where: tuple[str, ...] = repeated("FIELD=VALUE")  # show only runs that meet this condition: = != < <= > >=
    sort: str = option("COLUMN")  # sort by this column; -COLUMN for the largest first
    columns: str = option("NAMES")  # show these columns, separated by commas
    experiments: bool = False  # list the runs of experiments too
    plot: str = option("FILE")  # draw the validation losses to this .png, .svg or .pdf file
    json: str = option("FILE")  # write all that is known of these runs to this file
    csv: str = option("FILE")  # write the table to this file


def run(argv: list[str]) -> int:
    """Print the table, and return the exit code."""
    flags = parse(Flags, argv, "nanotx runs")
    if flags.plot:
        check_output(flags.plot, "--plot")
        from nanotx.cli import run_plot  # imports matplotlib, which takes a second

        run_plot.check(flags.plot)
    names, experiments = find_runs(flags.folders), dict[str, list[str]]()
    if not flags.experiments:
        names, experiments = apart(names, flags.folders)
    if not names and any((flags.where, flags.sort, flags.columns, flags.plot, flags.json, flags.csv)):
        raise ConfigError(
            f"nanotx runs: all runs in {', '.join(flags.folders)} are of experiments; add --experiments to list them."
        )
    if names:
        print_runs([read_run(name) for name in names], flags)
    for folder, those in experiments.items():
        count = f"{len(those)} run{'s' * (len(those) != 1)}"
        print_line(f"{folder}: {count} of an experiment; nanotx runs {shell_quoted(folder)} lists them.")
    return 0


def print_runs(everything: Sequence[RunRow], flags: Flags) -> None:
    """Print the table of those that are asked for, and write the files that are."""
    runs = select(everything, flags)
    columns = chosen_columns(flags.columns, everything) or default_columns(runs)
    write_table(runs, columns, fits=not flags.columns)
    for note in notes(runs, columns, flags.sort):
        print_line(note)
    if flags.plot:
        from nanotx.cli import run_plot  # imports matplotlib, which takes a second

        run_plot.draw(runs, differing(runs), Path(flags.plot))
        print_line(f"{flags.plot}: the validation losses")
    if flags.json:
        write_json(flags.json, {"columns": columns, "runs": [entry.to_json() for entry in runs]})
    if flags.csv:
        write_csv(flags.csv, runs, columns)


def apart(names: Sequence[str], folders: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Return the runs that are of no experiment, and those of each."""
    experiments = dict[str, list[str]]()
    for name in names:
        if folder := experiment_of(name, folders):
            experiments.setdefault(folder, []).append(name)
    inner = {name for those in experiments.values() for name in those}
    return [name for name in names if name not in inner], experiments


def select(runs: Sequence[RunRow], flags: Flags) -> list[RunRow]:
    """Return the runs that meet all conditions, sorted.

    Raises:
        ConfigError: no run has a column that is named, or no run meets the conditions.
    """
    conditions = [read_condition(text, runs) for text in flags.where]
    selected = [entry for entry in runs if all(condition(entry) for condition in conditions)]
    if flags.sort:
        descending = flags.sort.startswith("-")
        selected = sort_runs(selected, check_column("--sort", flags.sort.removeprefix("-"), runs), descending)
    if not selected:
        several = f"{len(runs)} runs meet" if len(runs) > 1 else "1 run meets"
        raise ConfigError(f"--where {' --where '.join(flags.where)}: none of {several} this.")
    return selected


def chosen_columns(names: str, runs: Sequence[RunRow]) -> list[str]:
    """Return the columns of a list of names; the run comes first."""
    words = [word.strip() for word in names.split(",") if word.strip()]
    return list(dict.fromkeys(["run", *(check_column("--columns", word, runs) for word in words)])) if words else []


def default_columns(runs: Sequence[RunRow]) -> list[str]:
    """Return the columns that are shown where none are named: the differing fields, and the main figures."""
    unfinished = any(entry.value("status") != "complete" for entry in runs)
    figures = [name for name in FIGURES if any(entry.value(name) is not None for entry in runs)]
    return list(dict.fromkeys(["run", *differing(runs), *(["status"] if unfinished else []), *figures]))


# The table.


def write_table(runs: Sequence[RunRow], columns: list[str], fits: bool) -> None:
    """Print the runs; on a terminal, leave out the last fields, then figures, where the table is too wide."""
    console, terminal = Console(highlight=False), sys.stdout.isatty()
    shown = list(columns)
    cells = [[shown_value(entry, name) for name in columns] for entry in runs]
    widths = {
        name: max(cell_len(text) for text in (name, *column))
        for name, column in zip(columns, zip(*cells, strict=True), strict=True)
    }
    fields = [name for name in columns if name not in ("run", "status", *FIGURES)]
    droppable = [*(name for name in columns if name in FIGURES[2:]), *fields]
    while fits and terminal and droppable and sum(widths[name] + GAP for name in shown) >= console.width:
        shown.remove(droppable.pop())
    rows = [[cell for name, cell in zip(columns, row, strict=True) if name in shown] for row in cells]
    tables.print_table(console, "", [shown, *rows], terminal)
    if hidden := [name for name in columns if name not in shown]:
        print_line(f"Not shown, for want of width: {', '.join(hidden)}; name columns with --columns.")


def shown_value(run: RunRow, column: str) -> str:
    """Return a cell of the table."""
    value = run.value(column)
    if value is None:
        return "-"
    if column.endswith("_seconds") and not isinstance(value, str):
        return clock(value)
    return shown_number(column, value) if not isinstance(value, str) else printable(shortened(value))


def shown_number(column: str, value: Scalar) -> str:
    """Return a number as the dashboard shows it: losses with four decimals, large numbers without any."""
    if isinstance(value, int):
        return f"{value:,}" if not column.endswith("seed") else str(value)
    if isinstance(value, float) and ("loss" in column or column in ("bits_per_byte", "val_stderr")):
        return f"{value:.4f}"
    return f"{value:,.0f}" if isinstance(value, float) and value >= 1000 else f"{value:.4g}"


GAP = 3
"""Characters between two columns of a table on a terminal."""

MAX_LENGTH = 40
"""Characters of a text in the table."""


def shortened(text: str) -> str:
    """Return a text in one line; the end of a long one, which tells paths apart, is kept."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_LENGTH else f"...{line[3 - MAX_LENGTH :]}"


def notes(runs: Sequence[RunRow], columns: Sequence[str], sort: str) -> list[str]:
    """Return what a reader of the table must know besides."""
    messages = [note for entry in runs for note in entry.notes]
    if any(name in columns for name in ("val_loss", "train_loss", "best_val_loss")):
        messages += incomparable(runs)
    if sort:
        column = check_column("--sort", sort.removeprefix("-"), runs)
        if lacking := [entry.name for entry in runs if entry.value(column) is None]:
            messages.append(f"without {column}, and so last: {', '.join(lacking)}")
    return messages


def print_line(line: str) -> None:
    """Print a line without folding it."""
    Console(highlight=False).print(Text(printable(line)), soft_wrap=True)


def write_csv(path: str, runs: Sequence[RunRow], columns: Sequence[str]) -> None:
    """Write the table, with all digits of its numbers.

    Raises:
        ConfigError: the path is a file of a run.
        RunError: the file cannot be written.
    """
    check_output(path, "--csv")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([[entry.value(name) for name in columns] for entry in runs])
    try:
        write_atomic(Path(path), text.getvalue())
    except OSError as error:
        raise RunError(f"--csv {path}: cannot be written: {error.strerror}.") from None
