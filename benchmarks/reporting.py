"""What a benchmark says: on which machine, in strict JSON for programs, in a table for people."""

import json
import platform
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

import nanotx
from nanotx.device import Machine, choose, cores, has_bfloat16, measured_peak
from nanotx.errors import ConfigError, RunError, did_you_mean

Row = dict[str, Any]
DEVICES = ("auto", "cpu", "cuda", "mps")
PASS = "pass"


def machines(devices: str, threads: int, dtypes: Sequence[str] = ("float32", "bfloat16")) -> list[Machine]:
    """A choice for each of the devices (separated by commas) and each of the dtypes that it has.

    Raises:
        ConfigError: the machine has no such device.
    """
    names = [name.strip() for name in devices.split(",")]
    for name in names:
        if name not in DEVICES:
            raise ConfigError(
                f"device: expected cpu, cuda, mps or several such as cpu,cuda, "
                f"got {name!r}.{did_you_mean(name, DEVICES)}"
            )
    firsts = {first.device.type: first for first in (choose(name, "float32", threads) for name in names)}
    return [
        choose(name, dtype, threads) for name in firsts for dtype in dtypes if dtype == "float32" or has_bfloat16(name)
    ]


def describe(chosen: Sequence[Machine]) -> Row:
    """The machine, as far as it bears on the figures; `peak_flops` is measured, in operations a second."""
    gpus = {torch.cuda.get_device_name(one.device) for one in chosen if one.device.type == "cuda"}
    return {
        "cpu": processor(),
        "cores": cores(),
        "threads": chosen[0].threads,
        "gpu": ", ".join(sorted(gpus)) or None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "nanotx": nanotx.__version__,
        "peak_flops": {f"{one.device.type} {dtype_name(one)}": measured_peak(one) for one in chosen},
    }


def processor() -> str:
    """The processor's name, as the system tells it."""
    listing = Path("/proc/cpuinfo")
    if listing.is_file():
        for line in listing.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    if platform.system() == "Darwin":
        asked = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    return platform.processor() or platform.machine()


def dtype_name(machine: Machine) -> str:
    """A machine's dtype in a word."""
    return str(machine.dtype).removeprefix("torch.")


# For programs.


def open_json(path: str) -> Path | None:
    """The file for the figures, known to be writable before an hour is spent on them; None for no name.

    Raises:
        RunError: it cannot be written.
    """
    if not path:
        return None
    file = Path(path)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.open("a", encoding="utf-8").close()
    except OSError as error:
        raise RunError(f"--json {path}: cannot be written: {error.strerror}.") from None
    return file


def write_json(file: Path | None, machine: Row, rows: Sequence[Row]) -> None:
    """Strict JSON: what is not known is null."""
    if file:
        text = json.dumps({"machine": machine, "rows": list(rows)}, indent=1, allow_nan=False)
        file.write_text(text + "\n", encoding="utf-8", newline="\n")


# For people.


class Teller:
    """Says what is being done now, on the standard error: a bar on a terminal, lines elsewhere."""

    def __init__(self, total: int, bar: Progress) -> None:
        self.total, self.done, self.bar = total, 0, bar
        self.task = bar.add_task("", total=total)

    def __call__(self, text: str) -> None:
        """The next thing begins."""
        self.bar.update(self.task, description=text, completed=self.done)
        self.done += 1
        if self.bar.disable:
            self.bar.console.print(Text(f"{self.done}/{self.total}  {text}"), soft_wrap=True)


@contextmanager
def telling(total: int) -> Iterator[Teller]:
    """For so many things to do."""
    console = Console(stderr=True, highlight=False)
    columns = (BarColumn(24), TextColumn("{task.completed}/{task.total}  {task.description}"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        yield Teller(total, bar)


def show(machine: Row, rows: Sequence[Row], about: str) -> None:
    """The figures as a table; what broke a law is told below it, in full."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 160
    console.print(Text(f"{machine['cpu']}, {machine['threads']} threads, torch {machine['torch']}"))
    table = Table(caption=about, caption_justify="left")
    for name in ("name", "device", "dtype", "shape", "pass"):
        table.add_column(name)
    for name in ("ms", "iqr", "tokens/s", "MB", "ratio", "laws"):
        table.add_column(name, justify="right")
    for row in rows:
        figures = ((row[key], style) for key, style in FIGURES.items())
        shape = f"{row['shape']} {row['batch']}x{row['time']}x{row['dim']} {row['heads']}h"
        laws = Text(f"{row['cases']} cases" if row["laws"] == PASS else "failed", LAW_STYLE[row["laws"] == PASS])
        cells = ("-" if one is None else format(one, style) for one, style in figures)
        table.add_row(row["name"], row["device"], row["dtype"], shape, row["pass"], *cells, laws)
    console.print(table)
    for text in dict.fromkeys(f"{row['name']}: {row['laws']}" for row in rows if row["laws"] != PASS):
        console.print(Text(text, "red"), soft_wrap=True)


FIGURES = {
    "median_ms": ".3f",
    "iqr_ms": ".3f",
    "tokens_per_second": ",.0f",
    "memory_mb": ",.1f",
    "ratio": ".3f",
}
LAW_STYLE = {True: "green", False: "bold red"}
