"""Report on this machine and on a run's settings here."""

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Literal

from rich import box
from rich.cells import set_cell_size
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nanotx.cli.console import write_json
from nanotx.config.flags import parse
from nanotx.config.schema import check_max
from nanotx.errors import ConfigError
from nanotx.hardware.cgroup import memory_info
from nanotx.hardware.compiler import try_compile
from nanotx.hardware.device import choose_machine, cores
from nanotx.hardware.report import choose_settings, machine_facts, microbenchmarks

USAGE = ""
GROUP = "Check nanotx"
ORDER = 50

Rows = Sequence[Sequence[str]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """Looks at this machine, measures it, tries to compile, and tells what a run takes by default.

    Nothing is changed. With --device, --dtype or --threads it tells of a run to which the same is said.
    """

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"  # which is looked at; auto for all that there are
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"  # of the mathematics
    threads: int = 0  # processor threads; 0 for as many as there are cores
    compile: bool = True  # try it, which takes most of the time
    json: str = ""  # write the findings into this file


def run(argv: list[str]) -> int:
    """Look, measure, tell."""
    flags = parse(Flags, argv, "nanotx doctor")
    if flags.threads < 0:
        raise ConfigError(f"--threads: expected a number of at least 0, got {flags.threads}.")
    check_max(flags, 1024, "threads")
    machine = choose_machine(flags.device, flags.dtype, flags.threads)
    with show_status("looking"):
        found = machine_facts()
    with show_status("measuring"):
        measured = microbenchmarks(machine)
    trial = None
    if flags.compile:
        with show_status("compiling something small"):
            trial = try_compile(machine.device)
    made = [dataclasses.asdict(one) for one in choose_settings(flags, machine, trial)]
    console, threads = Console(highlight=False), f"{machine.threads} thread{'s' * (machine.threads > 1)}"
    print_table(console, "This machine", ("", ""), [*found.items()])
    print_table(console, f"Measured on {machine.device.type}, {threads}", ("", ""), format_benchmarks(measured))
    rows = [[str(cell) for cell in one.values()] for one in made]
    print_table(
        console, "What a run takes, where nobody says otherwise", ("", "takes", "because", "otherwise by"), rows
    )
    if flags.json:
        chosen = {"device": machine.device.type, "dtype": machine.dtype_name, "threads": machine.threads}
        room, tried = memory_info(), dataclasses.asdict(trial) if trial else None
        counted = {"cores": cores(), "memory": dataclasses.asdict(room) if room else None}
        figures = {"machine": found, **counted, **chosen, "measured": measured, "compile": tried, "choices": made}
        write_json(flags.json, figures)
    return 0


def format_benchmarks(measured: dict[str, float]) -> Rows:
    """Rates in words."""
    products = {name: rate for name, rate in measured.items() if name != "copy"}
    rows = [(f"{name} products", f"{rate / 1e9:,.1f} GFLOP/s") for name, rate in products.items()]
    return [*rows, ("memory copied", f"{measured['copy'] / 1e9:.1f} GB/s, read and written")]


def show_status(what: str) -> contextlib.AbstractContextManager[object]:
    """Say what is being waited for, on a terminal."""
    console = Console(stderr=True)
    return console.status(what) if console.is_terminal else contextlib.nullcontext()


def print_table(console: Console, title: str, header: Sequence[str], rows: Rows) -> None:
    """A table on a terminal, plain columns elsewhere."""
    if console.is_terminal:
        table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1))
        table.show_header = any(header)
        for name in header:
            table.add_column(name, overflow="fold")
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        console.print(table)
        return
    cells = [header, *rows] if any(header) else rows
    widths = [max(len(row[index]) for row in cells) for index in range(len(header))]
    lines = ["  ".join(map(set_cell_size, row, widths)).rstrip() for row in cells]
    console.print(Text("\n".join([title, *lines, ""])), soft_wrap=True)
