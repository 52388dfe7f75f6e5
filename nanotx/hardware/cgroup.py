"""What this process may use of its machine: a container, a cluster's job or a service may have less than is there.

On Linux a control group (cgroup) bounds processor time and memory. Bounds nest, so each group above ours counts, and
the tightest holds. Both versions are read; where there are none, as on macOS and Windows, nothing is bounded.
Source: the kernel's Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")


@dataclass(frozen=True, kw_only=True)
class MemoryInfo:
    """In bytes."""

    total: int  # of the machine
    limit: int  # what this process may have of it, with all others of its group
    available: int  # what it can still have now; cached files are given back when they are in the way

    @property
    def bounded(self) -> bool:
        """Whether the process may have less than the machine."""
        return self.limit < self.total


def cpu_quota(system: Path = ROOT) -> float | None:
    """How many processors' time a cgroup grants; None where it grants all there is."""
    found = []
    for folder in cgroup_folders("cpu", system):
        words = [*read_kernel_file(folder / "cpu.max").split(), *read_kernel_file(folder / "cpu.cfs_quota_us").split()][
            :1
        ]
        period = [
            *read_kernel_file(folder / "cpu.max").split()[1:],
            *read_kernel_file(folder / "cpu.cfs_period_us").split(),
        ][:1]
        if words and period and words[0].isdecimal():  # "max" and -1 are no bounds
            found.append(int(words[0]) / int(period[0]))
    return min(found, default=None)


def memory_info(system: Path = ROOT) -> MemoryInfo | None:
    """What there is and what is left; None where the system does not say."""
    said = dict(line.split(":", 1) for line in read_kernel_file(system / "proc/meminfo").splitlines() if ":" in line)
    if not {"MemTotal", "MemAvailable"} <= said.keys():
        return installed_memory()
    total, available = (1024 * int(said[key].split()[0]) for key in ("MemTotal", "MemAvailable"))
    limit = total
    for folder in cgroup_folders("memory", system):
        bounds = [read_kernel_file(folder / name) for name in ("memory.max", "memory.high", "memory.limit_in_bytes")]
        used = read_kernel_file(folder / "memory.current") or read_kernel_file(folder / "memory.usage_in_bytes")
        for bound in (int(one) for one in bounds if one.isdecimal()):
            limit = min(limit, bound)
            available = min(available, max(0, bound - int(used or 0) + reclaimable_bytes(folder)))
    return MemoryInfo(total=total, limit=limit, available=available)


def installed_memory() -> MemoryInfo | None:
    """All that is installed, for all that is known, where there is no /proc; None on Windows."""
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return None
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return MemoryInfo(total=total, limit=total, available=total)


def cgroup_folders(controller: str, system: Path) -> Iterator[Path]:
    """The folders of this process' group and of all above it, for one controller and in either version."""
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
        # In a container the path may be the host's, which is not there: what is mounted is then our own group.
        yield from (folder for folder in inside if folder.is_relative_to(root) and folder != root and folder.is_dir())
        yield root


def reclaimable_bytes(folder: Path) -> int:
    """Bytes of files in a group's memory that nobody has read lately."""
    rows = (line.split() for line in read_kernel_file(folder / "memory.stat").splitlines())
    sizes = {row[0]: int(row[1]) for row in rows if len(row) == 2}
    return sizes.get("total_inactive_file", sizes.get("inactive_file", 0))


def read_kernel_file(path: Path) -> str:
    """What a file of the kernel's says; empty where it is not there or not ours to read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
