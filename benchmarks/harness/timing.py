"""Times and memory that can be compared: taken in turns, summed up by the middle, alone in a process.

A machine grows warm, and its other tenants come and go; what is timed one after the other differs by that too. So
the candidates take turns, and a ratio is the middle of the ratios within one round.
"""

import contextlib
import math
import multiprocessing
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import ParamSpec

import torch

from nanotx.hardware.device import synchronize

P = ParamSpec("P")
Times = dict[str, list[float]]
"""For each candidate, seconds a call: one figure a round."""

LEAST = 0.02
"""Seconds that one turn takes at least, so that the clock's grain does not show."""
FEWEST = 3
"""Rounds that there are at least, however long they take."""


def take_turns(
    runs: Mapping[str, Callable[[], object]],
    rounds: int,
    device: torch.device,
    calls: int | None = None,
    limit: float = math.inf,
) -> Times:
    """Each candidate in each round, the first of one round the last of the next.

    Args:
        runs: what is timed, by name.
        rounds: how many figures each gets.
        device: waited for before the clock is read.
        calls: of one turn; None is as many as fill `LEAST` seconds, once it is warm.
        limit: seconds after which no round begins, but for the `FEWEST`.
    """
    turns = {name: calls or calls_to_fill(run, device) for name, run in runs.items()}
    times: Times = {name: [] for name in runs}
    order, start = list(runs), time.perf_counter()
    for done in range(rounds):
        if done >= FEWEST and time.perf_counter() - start > limit:
            break
        for name in order:
            times[name].append(seconds(runs[name], turns[name], device))
        order = order[1:] + order[:1]
    return times


def calls_to_fill(run: Callable[[], object], device: torch.device) -> int:
    """How many calls fill one turn; warms up, by one call where calls are long and by two where they are not."""
    if seconds(run, 1, device) > 10 * LEAST:
        return 1
    seconds(run, 1, device)
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
    with ProcessPoolExecutor(1, mp_context=nursery()) as pool:
        try:
            return pool.submit(peak_after, run, *args, **kwargs).result()
        except BrokenProcessPool:  # it was killed, perhaps for want of memory
            return None


@cache
def nursery() -> BaseContext:
    """Where children come from: on Linux a process that has loaded the libraries, has done nothing yet, and forks.

    Elsewhere each child loads them itself, which takes seconds.
    """
    if platform.system() != "Linux":
        return multiprocessing.get_context("spawn")
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["nanotx.laws.registry", "sympy"])  # the latter by the first backward pass
    return server


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
