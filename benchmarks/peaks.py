"""What a device can do at most: matrix products in each number format, memory read and copied, and versions.

python benchmarks/peaks.py --device cuda --json peaks.json
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from harness import Row
from harness.machine import describe, read_bandwidth
from harness.report import Flags, open_output, write_json
from harness.tables import number, open_console, print_table, word
from harness.timing import best

from nanotx.cli.entry import run_and_exit
from nanotx.config.flags import parse
from nanotx.config.schema import check_min
from nanotx.hardware.device import Machine, choose_machine

COLUMNS = {
    "peak": word("name"),
    "of": word("device"),
    "TFLOP/s": number("flops_per_second", ".2f", 1e-12),
    "GB/s": number("bytes_per_second", ",.0f", 1e-9),
}


@dataclass(frozen=True, kw_only=True)
class PeakFlags(Flags):
    """Times square matrix products and long copies; the best of a few tries each."""

    size: int = 0  # of the square matrices; 0 for 8192 on a GPU and 1024 on a CPU
    tries: int = 10  # of each


def main() -> int:
    """Read the flags, measure, show, write."""
    flags = parse(PeakFlags, sys.argv[1:], "peaks.py")
    check_min(flags, 1, "tries")
    check_min(flags, 0, "size", "threads")
    out, machine = open_output(flags.json), choose_machine(flags.device, "float32", flags.threads)
    rows, about = [*products(flags, machine.device), *memory(flags.tries, machine.device)], versions(machine)
    write_json(out, about, rows)
    print_table(open_console(), about["gpu"] or about["cpu"], COLUMNS, rows)
    return 0


def products(flags: PeakFlags, device: torch.device) -> Iterator[Row]:
    """Yield the rate of square products in each number format."""
    size = flags.size or (1024 if device.type == "cpu" else 8192)
    formats = [("float32", torch.float32, False), ("bfloat16", torch.bfloat16, False)]
    if device.type == "cuda":
        formats[1:1] = [("tf32", torch.float32, True), ("float16", torch.float16, False)]
    for name, dtype, fast in formats:
        with tf32(fast):
            rate = product_rate(device, dtype, size, flags.tries)
        yield {"name": f"product {name}", "device": device.type, "size": size, "flops_per_second": rate}


def product_rate(device: torch.device, dtype: torch.dtype, size: int, tries: int) -> float:
    """Return the operations per second of the fastest square product."""
    a = torch.randn(size, size, device=device).to(dtype)
    out = torch.empty_like(a)
    return 2 * size**3 / best(lambda: torch.mm(a, a, out=out), tries, device)


@contextmanager
def tf32(on: bool) -> Iterator[None]:
    """Within, products of float32 are in TF32, or are not."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if on else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def memory(tries: int, device: torch.device) -> Iterator[Row]:
    """Yield the rates of reading alone, and of copying, which reads and writes each byte."""
    size = 2**30 if device.type == "cuda" else 2**28
    yield {"name": "memory read", "device": device.type, "bytes_per_second": read_bandwidth(device, size, tries)}
    source = torch.ones(size // 4, device=device)
    target = torch.empty_like(source)
    rate = 2 * size / best(lambda: target.copy_(source), tries, device)
    yield {"name": "memory copy", "device": device.type, "bytes_per_second": rate}


def versions(machine: Machine) -> Row:
    """Describe the machine, its driver and its GPU."""
    about = describe([machine]) | {"driver": driver(), "cuda": torch.version.cuda}
    if machine.device.type == "cuda":
        gpu = torch.cuda.get_device_properties(machine.device)
        about |= {"gpu_memory_bytes": gpu.total_memory, "capability": f"{gpu.major}.{gpu.minor}"}
    return about


def driver() -> str | None:
    """Return the version of NVIDIA's driver; None where there is none."""
    ask = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(ask, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return next(iter(done.stdout.split()), None)


if __name__ == "__main__":
    run_and_exit(main)
