"""Report on this machine and on a run's settings here."""

import contextlib
import dataclasses
from typing import Literal

from rich.console import Console

from nanotx.cli.console import write_json
from nanotx.cli.tables import Cells, print_table
from nanotx.config.flags import option, parse
from nanotx.config.schema import check_max, check_min
from nanotx.hardware.cgroup import memory_info
from nanotx.hardware.compiler import try_compile
from nanotx.hardware.cpu import cores
from nanotx.hardware.device import choose_machine
from nanotx.hardware.report import choose_settings, machine_facts, microbenchmarks

USAGE = ""
GROUP = "Check nanotx"
ORDER = 50


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """Report on this machine: measure it, try to compile, and print the settings that a run chooses by default.

    Nothing is changed. With --device, --dtype or --threads the report is on a run with these settings.

        nanotx doctor
        nanotx doctor --device cpu --no-compile
    """

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"  # device to measure; auto for the best one of this machine
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"  # type of the arithmetic
    threads: int = 0  # processor threads; 0 for OMP_NUM_THREADS, else one per core
    compile: bool = True  # try torch.compile, which takes most of the time
    json: str = option("FILE")  # write the report to this file

    def __post_init__(self) -> None:
        check_min(self, 0, "threads")
        check_max(self, 1024, "threads")


def run(argv: list[str]) -> int:
    """Measure the machine, print the report, and return the exit code."""
    flags = parse(Flags, argv, "nanotx doctor")
    machine = choose_machine(flags.device, flags.dtype, flags.threads)
    with show_status("looking"):
        facts = machine_facts()
    with show_status("measuring"):
        measured = microbenchmarks(machine)
    trial = None
    if flags.compile:
        with show_status("compiling something small"):
            trial = try_compile(machine.device)
    choices = [dataclasses.asdict(choice) for choice in choose_settings(flags, machine, trial)]
    settings = [tuple(map(str, setting.values())) for setting in choices]
    console, threads = Console(highlight=False), f"{machine.threads} thread{'s' * (machine.threads > 1)}"
    tables: list[Cells] = [
        [("this machine", ""), *facts.items()],
        [(f"measured on {machine.device.type}, {threads}", ""), *format_benchmarks(measured)],
        [("a run chooses", "choice", "reason", "override"), *settings],
    ]
    for cells in tables:
        print_table(console, "", cells, console.is_terminal, left=len(cells[0]))
    if flags.json:
        chosen = {"device": machine.device.type, "dtype": machine.dtype_name, "threads": machine.threads}
        memory, compiled = memory_info(), dataclasses.asdict(trial) if trial else None
        resources = {"cores": cores(), "memory": dataclasses.asdict(memory) if memory else None}
        figures = {
            "machine": facts,
            **resources,
            **chosen,
            "measured": measured,
            "compile": compiled,
            "choices": choices,
        }
        write_json(flags.json, figures)
    return 0


def format_benchmarks(measured: dict[str, float]) -> list[tuple[str, str]]:
    """Return the measured rates as rows of name and rate."""
    products = {name: rate for name, rate in measured.items() if name != "copy"}
    rows = [(f"{name} products", f"{rate / 1e9:,.1f} GFLOP/s") for name, rate in products.items()]
    return [*rows, ("memory copied", f"{measured['copy'] / 1e9:.1f} GB/s, read and written")]


def show_status(what: str) -> contextlib.AbstractContextManager[object]:
    """Show on a terminal what the user is waiting for."""
    console = Console(stderr=True)
    return console.status(what) if console.is_terminal else contextlib.nullcontext()
