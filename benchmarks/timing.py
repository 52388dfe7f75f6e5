"""Times and memory that can be compared: taken in turns, summed up by the middle, alone in a process.

A machine grows warm, and its other tenants come and go; what is timed one after the other differs by that too. So
the candidates take turns, and a ratio is the middle of the ratios within one round.
"""

import contextlib
import math
import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import ParamSpec

import torch

from nanotx.device import synchronize

P = ParamSpec("P")
Times = dict[str, list[float]]
"""For each candidate, seconds a call: one figure a round."""

LEAST = 0.02
"""Seconds that one turn takes at least, so that the clock's grain does not show."""


def take_turns(
    runs: Mapping[str, Callable[[], object]], rounds: int, device: torch.device, calls: int | None = None
) -> Times:
    """Each candidate in each round, the first of one round the last of the next.

    Args:
        runs: what is timed, by name.
        rounds: how many figures each gets.
        device: waited for before the clock is read.
        calls: of one turn; None is as many as fill `LEAST` seconds, by a third call after two to warm up.
    """
    turns = {name: calls or calls_to_fill(run, device) for name, run in runs.items()}
    times: Times = {name: [] for name in runs}
    order = list(runs)
    for _ in range(rounds):
        for name in order:
            times[name].append(seconds(runs[name], turns[name], device))
        order = order[1:] + order[:1]
    return times


def calls_to_fill(run: Callable[[], object], device: torch.device) -> int:
    """How many calls fill one turn; warms up."""
    seconds(run, 2, device)
    return max(1, math.ceil(LEAST / seconds(run, 1, device)))


def seconds(run: Callable[[], object], calls: int, device: torch.device) -> float:
    """Seconds a call, over several."""
    synchronize(device)
    start = time.perf_counter()
    for _ in range(calls):
        run()
    synchronize(device)
    return (time.perf_counter() - start) / calls


def spread(values: Sequence[float]) -> float:
    """The interquartile range: how wide the middle half lies."""
    if len(values) < 2:
        return 0.0
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return high - low


def ratio(times: Times, name: str, reference: str) -> float | None:
    """How long one takes in times of another: the median over the rounds; None where either was not timed."""
    if not times.get(name) or not times.get(reference):
        return None
    pairs = zip(times[name], times[reference], strict=True)
    return statistics.median(one / other for one, other in pairs)


# Memory.


def peak_in_child(run: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> int | None:
    """The most bytes that a process of its own held while it did this alone; None where that cannot be known."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(peak_after, run, *args, **kwargs).result()
        except BrokenProcessPool:  # it was killed, perhaps for want of memory
            return None


def peak_after(run: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> int | None:
    """Do this; what it gave stays here."""
    run(*args, **kwargs)
    return resident_peak()


def forget_peak() -> None:
    """Count the peak from now on, where the system lets one: loading the libraries may have taken more."""
    with contextlib.suppress(OSError):  # Linux alone has it
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def resident_peak() -> int | None:
    """The most bytes that this process has held.

    Linux lets a child's `ru_maxrss` begin at its parent's, so the kernel's own count is read where there is one.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS counts bytes


def peak_on_cuda(run: Callable[[], object], device: torch.device) -> int:
    """The most bytes that this took on the GPU, above what was taken before."""
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    run()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def megabytes(size: int | None, empty: int | None = 0) -> float | None:
    """Bytes above those of an empty process, in millions; None where either is unknown."""
    return None if size is None or empty is None else max(0, size - empty) / 1e6
