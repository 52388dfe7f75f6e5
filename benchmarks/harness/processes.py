"""Processes of their own: for memory that is a candidate's alone, and for programs that are watched from outside."""

import contextlib
import multiprocessing
import os
import platform
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import ParamSpec

import torch

P = ParamSpec("P")
BENCHMARKS = Path(__file__).resolve().parents[1]
ROOT = BENCHMARKS.parent


def environment(**changes: str) -> dict[str, str]:
    """Return the environment of a child that imports the benchmarks and nanotx from this checkout."""
    paths = (str(BENCHMARKS), str(ROOT), os.environ.get("PYTHONPATH", ""))
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))} | changes


@cache
def preloaded() -> BaseContext:
    """Return the context that children start from: on Linux forked from a process that has only loaded the libraries.

    Elsewhere each child loads them itself, which takes seconds.
    """
    if platform.system() != "Linux":
        return multiprocessing.get_context("spawn")
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["nanotx.laws.all_laws", "sympy"])  # the first backward pass loads the latter
    return server


def peak_in_child(run: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> int | None:
    """Return the peak memory in bytes of a process that runs this alone; None where it is unknown."""
    with ProcessPoolExecutor(1, mp_context=preloaded()) as pool:
        try:
            return pool.submit(peak_after, run, *args, **kwargs).result()
        except BrokenProcessPool:  # killed, perhaps for lack of memory
            return None


def peak_after(run: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> int | None:
    """Run this and return the peak; its result stays in the child."""
    run(*args, **kwargs)
    return resident_peak()


def reset_peak() -> None:
    """Count the peak from now on, where the system allows it: loading the libraries may have taken more."""
    with contextlib.suppress(OSError):  # only Linux has it
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def resident_peak(pid: int | None = None) -> int | None:
    """Return the peak memory of a process (None for this one) in bytes; None where it is unknown.

    On Linux a child's `ru_maxrss` starts at its parent's, so the kernel's own count is read where there is one.
    """
    status = Path(f"/proc/{pid or 'self'}/status")
    with contextlib.suppress(OSError):
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if pid is not None:
        return None
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS counts bytes


def peak_on_cuda(run: Callable[[], object], device: torch.device) -> int:
    """Return the most bytes that this took on the GPU, above what was allocated before."""
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    run()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def megabytes(size: int | None, empty: int | None = 0) -> float | None:
    """Return bytes above those of an empty process, in millions; None where either is unknown."""
    return None if size is None or empty is None else max(0, size - empty) / 1e6
