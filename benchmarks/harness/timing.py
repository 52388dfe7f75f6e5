"""Times that can be compared: candidates are timed interleaved, and summed up by medians.

A machine warms up, and its other tenants come and go: what is timed one after the other differs by that too. So each
candidate is timed once per round, and a ratio is the median of the ratios within one round.
"""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch

from nanotx.experiments.student import quantile
from nanotx.hardware.device import synchronize

Times = dict[str, list[float]]
"""Of each candidate the seconds per call, one figure per round."""
MIN_TURN = 0.02
"""Seconds that one turn takes at least, so that the resolution of the clock does not matter."""
MIN_ROUNDS = 3
"""Rounds that are run in any case, however long they take."""


def interleave(
    runs: Mapping[str, Callable[[], object]],
    rounds: int,
    device: torch.device,
    calls: int | None = None,
    limit: float = math.inf,
) -> Times:
    """Time each candidate once per round.

    Args:
        runs: the candidates, by name.
        rounds: the number of rounds at most.
        device: waited for before the clock is read.
        calls: calls per turn; None for as many as fill `MIN_TURN` seconds, after a warm-up.
        limit: seconds after which no round begins, except for the first `MIN_ROUNDS`.
    """
    turns = {name: calls or calls_per_turn(run, device) for name, run in runs.items()}
    times: Times = {name: [] for name in runs}
    for name in turn_order(list(runs), rounds, limit):
        times[name].append(seconds(runs[name], turns[name], device))
    return times


def turn_order(names: Sequence[str], rounds: int, limit: float = math.inf) -> Iterator[str]:
    """Yield all names once per round; the first of one round is the last of the next."""
    start = time.perf_counter()
    for done in range(rounds):
        if done >= MIN_ROUNDS and time.perf_counter() - start > limit:
            return
        first = done % max(1, len(names))
        yield from (*names[first:], *names[:first])


def calls_per_turn(run: Callable[[], object], device: torch.device) -> int:
    """Return how many calls fill one turn; warm up by one call where calls are long, and otherwise by two."""
    if seconds(run, 1, device) > 10 * MIN_TURN:
        return 1
    seconds(run, 1, device)
    return max(1, math.ceil(MIN_TURN / seconds(run, 1, device)))


def seconds(run: Callable[[], object], calls: int, device: torch.device) -> float:
    """Return the seconds per call, over several calls."""
    synchronize(device)
    start = time.perf_counter()
    for _ in range(calls):
        run()
    synchronize(device)
    return (time.perf_counter() - start) / calls


def best(run: Callable[[], object], tries: int, device: torch.device) -> float:
    """Return the seconds of the fastest of a few calls."""
    return min(seconds(run, 1, device) for _ in range(tries))


# Statistics of few figures.


def median(values: Sequence[float | None]) -> float | None:
    """Return the median of the known values; None where there are none."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def iqr(values: Sequence[float]) -> float:
    """Return the interquartile range."""
    if len(values) < 2:
        return 0.0
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return high - low


def ratio(times: Times, name: str, baseline: str) -> float | None:
    """Return the median over the rounds of a candidate's time relative to the baseline's; None if one has no times."""
    if not times.get(name) or not times.get(baseline):
        return None
    pairs = zip(times[name], times[baseline], strict=True)
    return statistics.median(mine / theirs for mine, theirs in pairs)


def confidence_interval(values: Sequence[float], level: float = 0.95) -> float | None:
    """Return the half-width of the confidence interval of a mean, by Student's t; None for a single value."""
    if len(values) < 2:
        return None
    return quantile(level, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
