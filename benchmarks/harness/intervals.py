"""An interval for a mean of few: Student's t, which knows that few figures say little about their own spread."""

import math
import statistics
from collections.abc import Sequence

LEVEL = 0.95


def half_width(values: Sequence[float], level: float = LEVEL) -> float | None:
    """How far to each side of the mean the interval reaches that holds the true one in this share of cases.

    None for a single figure, of which nobody can tell how far it lies. Source: Student 1908, doi:10.2307/2331554
    """
    if len(values) < 2:
        return None
    return student(level, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))


def student(level: float, freedom: int) -> float:
    """The t that bounds this share of Student's distribution on both sides, by halving what is left."""
    low, high = 0.0, math.pi / 2
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if share(middle, freedom) < level else (low, middle)
    return math.sqrt(freedom) * math.tan((low + high) / 2)


def share(angle: float, freedom: int) -> float:
    """How much of the distribution lies within t = sqrt(freedom) tan(angle) of zero.

    Source: Abramowitz and Stegun 1964, Handbook of Mathematical Functions, equations 26.7.3 and 26.7.4
    """
    odd, cosine = freedom % 2, math.cos(angle)
    term, total = (cosine if odd else 1.0), 0.0
    for power in range(1 if odd else 0, freedom - 1, 2):
        total += term
        term *= cosine**2 * (power + 1) / (power + 2)
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if odd else total
