"""The time of two functions relative to one another, and the peak memory of one.

A machine warms up, and its other tenants come and go. So the two are called in turns, one after the other in each
round, and their ratio is the median of the ratios within a round.
"""

import math
import statistics
import time
from collections.abc import Callable, Sequence

import torch

from nanotx.experiments.allocated import most_allocated
from nanotx.hardware.device import synchronize

Run = Callable[[], object]

TURN = 0.02
"""Seconds of one turn at least, so that the resolution of the clock does not matter."""

MIN_ROUNDS = 6
"""The fewest rounds of which the median has an interval of 95%."""


def interleave(
    first: Run, second: Run, rounds: int, device: torch.device, limit: float = math.inf
) -> tuple[list[float], list[float]]:
    """Return the seconds of a call of each function, per round; the two take turns in going first.

    On a CPU the time is processor time of this process, which other processes hardly touch.

    Args:
        first, second: the functions; both are called before anything is timed.
        rounds: at most.
        device: waited for before the clock is read.
        limit: seconds of wall time after which no round begins, except for the first `MIN_ROUNDS`.
    """
    runs = (first, second)
    calls = [calls_per_turn(run, device) for run in runs]
    times: tuple[list[float], list[float]] = ([], [])
    began = time.perf_counter()
    for index in range(rounds):
        if index >= MIN_ROUNDS and time.perf_counter() - began > limit:
            break
        for place in (0, 1) if index % 2 else (1, 0):
            times[place].append(seconds_per_call(runs[place], calls[place], device))
    return times


def calls_per_turn(run: Run, device: torch.device) -> int:
    """Return how many calls fill a turn; warms up."""
    if seconds_per_call(run, 1, device) > 10 * TURN:
        return 1
    return max(1, math.ceil(TURN / max(1e-9, seconds_per_call(run, 2, device))))


def seconds_per_call(run: Run, calls: int, device: torch.device) -> float:
    """Return the mean seconds of some calls."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    synchronize(device)
    began = clock()
    for _ in range(calls):
        run()
    synchronize(device)
    return (clock() - began) / calls


def ratio(first: Sequence[float], second: Sequence[float]) -> tuple[float, tuple[float, float] | None]:
    """Return the median of the rounds' ratios, the first by the second, and its interval of at least 95%.

    The interval is None for fewer than `MIN_ROUNDS` rounds.
    """
    ratios = [mine / theirs for mine, theirs in zip(first, second, strict=True)]
    return statistics.median(ratios), median_interval(ratios)


def median_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float] | None:
    """Return the interval of a median between two of the values, which assumes no distribution; None for too few.

    Source: Thompson 1936, https://doi.org/10.1214/aoms/1177732502
    """
    size, ordered = len(values), sorted(values)
    outside, place = 0.0, -1
    for below in range(size // 2):
        outside += 2 * math.comb(size, below) / 2**size
        if outside > 1 - level:
            break
        place = below
    return None if place < 0 else (ordered[place], ordered[size - 1 - place])


# Memory.


def peak_bytes(run: Run, device: torch.device, warm: bool = True) -> int | None:
    """Return the most bytes that PyTorch's allocator held at once during a call; None where it does not count them.

    Args:
        run: the function; what was allocated before, such as weights, does not count.
        device: of its tensors.
        warm: call it once before; without that, what a first call allocates counts, such as an optimizer's state.
    """
    if warm:
        run()
    if device.type == "cuda":
        synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    if device.type != "cpu":
        return None
    return most_allocated(run)
