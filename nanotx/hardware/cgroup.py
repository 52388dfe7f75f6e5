"""Processor and memory limits of this process: a container may have less than the machine.

On Linux a cgroup limits processor time and memory. Groups nest, so every ancestor counts and the tightest limit holds.
Both cgroup versions are read; macOS and Windows have none, so nothing is limited there.
Source: the kernel's Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")


@dataclass(frozen=True, kw_only=True)
class MemoryInfo:
    """Memory of the machine and of this process, in bytes."""

    total: int  # of the machine
    limit: int  # for this process and the others of its cgroup
    available: int  # free now, reclaimable file cache included

    @property
    def bounded(self) -> bool:
        """Return whether a cgroup limits the memory of this process."""
        return self.limit < self.total


def cpu_quota(system: Path = ROOT) -> float | None:
    """Return the number of processors granted by the cgroup; None if it sets no limit."""
    quotas = []
    for folder in cgroup_folders("cpu", system):
        words = [*read_kernel_file(folder / "cpu.max").split(), *read_kernel_file(folder / "cpu.cfs_quota_us").split()][
            :1
        ]
        period = [
            *read_kernel_file(folder / "cpu.max").split()[1:],
            *read_kernel_file(folder / "cpu.cfs_period_us").split(),
        ][:1]
        if words and period and words[0].isdecimal():  # "max" and -1 are not limits
            quotas.append(int(words[0]) / int(period[0]))
    return min(quotas, default=None)


def memory_info(system: Path = ROOT) -> MemoryInfo | None:
    """Return the total, limit and available memory; None if the system does not report it."""
    sizes = dict(line.split(":", 1) for line in read_kernel_file(system / "proc/meminfo").splitlines() if ":" in line)
    if not {"MemTotal", "MemAvailable"} <= sizes.keys():
        return installed_memory()
    total, available = (1024 * int(sizes[key].split()[0]) for key in ("MemTotal", "MemAvailable"))
    limit = total
    for folder in cgroup_folders("memory", system):
        bounds = [read_kernel_file(folder / name) for name in ("memory.max", "memory.high", "memory.limit_in_bytes")]
        used = read_kernel_file(folder / "memory.current") or read_kernel_file(folder / "memory.usage_in_bytes")
        for bound in (int(text) for text in bounds if text.isdecimal()):
            limit = min(limit, bound)
            available = min(available, max(0, bound - int(used or 0) + reclaimable_bytes(folder)))
    return MemoryInfo(total=total, limit=limit, available=available)


def installed_memory() -> MemoryInfo | None:
    """Return the installed memory on systems without /proc; None on Windows."""
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return None
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return MemoryInfo(total=total, limit=total, available=total)


def cgroup_folders(controller: str, system: Path) -> Iterator[Path]:
    """Yield the folder of this process's cgroup and of its ancestors, for one controller, in either version."""
    mounts = system / "sys/fs/cgroup"
    for line in read_kernel_file(system / "proc/self/cgroup").splitlines():
        _, names, path = line.split(":", 2)
        if names and controller not in names.split(","):
            continue
        root = mounts / names if names else mounts
        if names and not root.is_dir():
            root = mounts / controller  # "cpu,cpuacct" may be mounted under either's name
        here = root / path.lstrip("/")
        inside = [] if ".." in here.parts else [here, *here.parents]
        # In a container the path may be the host's and not exist: the mounted group is then that of this process.
        yield from (folder for folder in inside if folder.is_relative_to(root) and folder != root and folder.is_dir())
        yield root


def reclaimable_bytes(folder: Path) -> int:
    """Return the bytes of inactive file cache in a cgroup, which the kernel can reclaim."""
    rows = (line.split() for line in read_kernel_file(folder / "memory.stat").splitlines())
    sizes = {row[0]: int(row[1]) for row in rows if len(row) == 2}
    return sizes.get("total_inactive_file", sizes.get("inactive_file", 0))


def read_kernel_file(path: Path) -> str:
    """Return the text of a kernel file; empty if it is missing or unreadable."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
