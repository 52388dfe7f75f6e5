"""What a device can do at most: matrix products in each number format, memory read and copied, and versions.

python benchmarks/peaks.py --device cuda --json peaks.json
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from harness import Row
from harness.machine import describe
from harness.report import open_output, write_json
from harness.timing import seconds
from rich.console import Console

from nanotx.cli import tables
from nanotx.cli.entry import run_and_exit
from nanotx.config.flags import parse
from nanotx.config.schema import check_min
from nanotx.hardware.device import choose_machine


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Times square matrix products and long copies; the best of a few tries each."""

    device: str = "auto"  # auto, cpu, cuda or mps
    size: int = 0  # of the square matrices; 0 for 8192 on a GPU and 1024 on a CPU
    tries: int = 10  # of each
    threads: int = 0  # processor threads; 0 for as many as there are cores
    json: str = ""  # write the figures into this file


@contextmanager
def tf32(on: bool) -> Iterator[None]:
    """Products of float32 in TF32, or not; as it was before, afterwards."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if on else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def product_rate(device: torch.device, dtype: torch.dtype, size: int, tries: int) -> float:
    """Operations per second of the quickest square product."""
    a = torch.randn(size, size, device=device).to(dtype)
    out = torch.empty_like(a)
    return 2 * size**3 / min(seconds(lambda: torch.mm(a, a, out=out), 1, device) for _ in range(tries))


def memory_rates(device: torch.device, tries: int) -> dict[str, float]:
    """Bytes per second: reading alone, and copying (each byte read and written)."""
    source = torch.ones(2**28 if device.type == "cuda" else 2**26, device=device)
    target = torch.empty_like(source)
    read = min(seconds(source.sum, 1, device) for _ in range(tries))
    copy = min(seconds(lambda: target.copy_(source), 1, device) for _ in range(tries))
    return {"read": source.nbytes / read, "copy": 2 * source.nbytes / copy}


def driver() -> str | None:
    """The version of NVIDIA's driver; None where there is none."""
    ask = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(ask, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return next(iter(done.stdout.split()), None)


def measure(flags: Flags) -> tuple[dict[str, Any], list[Row]]:
    """The machine, and a row for each peak."""
    machine = choose_machine(flags.device, "float32", flags.threads)
    device = machine.device
    size = flags.size or (1024 if device.type == "cpu" else 8192)
    formats = [("float32", torch.float32, False), ("bfloat16", torch.bfloat16, False)]
    if device.type == "cuda":
        formats[1:1] = [("tf32", torch.float32, True), ("float16", torch.float16, False)]
    rows: list[Row] = []
    for name, dtype, fast in formats:
        with tf32(fast):
            rate = product_rate(device, dtype, size, flags.tries)
        rows.append({"name": f"product {name}", "device": device.type, "size": size, "flops_per_second": rate})
    for name, bandwidth in memory_rates(device, flags.tries).items():
        rows.append({"name": f"memory {name}", "device": device.type, "bytes_per_second": bandwidth})
    about = describe([machine]) | {"driver": driver(), "cuda": torch.version.cuda}
    if device.type == "cuda":
        found = torch.cuda.get_device_properties(device)
        about |= {"gpu_memory_bytes": found.total_memory, "capability": f"{found.major}.{found.minor}"}
    return about, rows


def main() -> int:
    """Read the flags, measure, show, write."""
    flags = parse(Flags, sys.argv[1:], "peaks.py")
    check_min(flags, 1, "tries")
    check_min(flags, 0, "size", "threads")
    out = open_output(flags.json)
    machine, rows = measure(flags)
    console = Console(highlight=False)
    table = [["peak", "of", "per second"]]
    for row in rows:
        flops = row.get("flops_per_second")
        table.append([row["name"], row["device"], f"{flops / 1e12:.2f} TFLOP" if flops else giga(row)])
    tables.print_table(console, machine["gpu"] or machine["cpu"], table, console.is_terminal)
    write_json(out, machine, rows)
    return 0


def giga(row: Row) -> str:
    """A bandwidth in words."""
    return f"{row['bytes_per_second'] / 1e9:,.0f} GB"


if __name__ == "__main__":
    run_and_exit(main)
