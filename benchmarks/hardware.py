"""What a benchmark runs on."""

import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import nanotx
from nanotx.device import Machine, choose, cores, has_bfloat16, measured_peak
from nanotx.errors import ConfigError, did_you_mean

DEVICES = ("auto", "cpu", "cuda", "mps")


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


def describe(chosen: Sequence[Machine]) -> dict[str, Any]:
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
