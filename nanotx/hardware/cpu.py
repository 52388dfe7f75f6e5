"""The processor: its name, and the number of cores for this process; and a short description of the machine."""

import math
import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import nanotx
from nanotx.hardware.cgroup import cpu_quota, read_kernel_file

CPUINFO = Path("/proc/cpuinfo")
"""Linux's list of processors; other systems have none."""


def cores() -> int:
    """Return the number of cores this process may use: its affinity, or less if a cgroup limits processor time."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(affinity, math.ceil(cpu_quota() or affinity)))  # macOS and Windows have no affinity


def default_threads() -> int:
    """Return the number of threads for a run: OMP_NUM_THREADS where it is set to a number, else `cores()`."""
    wanted = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()  # a list is for nested parallel regions
    return int(wanted) if wanted.isdecimal() and int(wanted) else cores()


def processor() -> str:
    """Return the processor's name, as the system reports it."""
    for line in read_kernel_file(CPUINFO).splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    if platform.system() == "Darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return platform.processor() or platform.machine()


def is_amd() -> bool:
    """Return whether the processor is from AMD, as far as the system reports it."""
    return "AuthenticAMD" in read_kernel_file(CPUINFO)


def describe_machine(*packages: str) -> dict[str, str | int | None]:
    """Describe the machine for a file of results: processor, cores, system, Python, and versions of packages.

    Args:
        packages: names of distributions besides nanotx; the version of one that is not installed is None.
    """
    return {
        "cpu": processor(),
        "cores": cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "nanotx": nanotx.__version__,
        **{name: installed_version(name) for name in packages},
    }


@cache  # a process keeps the versions that it has imported, and looking one up takes 10 ms
def installed_version(package: str) -> str | None:
    """Return the version of an installed distribution; None if there is none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
