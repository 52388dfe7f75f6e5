"""Student's t distribution for whole degrees of freedom, as finite series."""

import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from jaxtyping import Float

EXACT = 60
"""Degrees of freedom up to which a quantile is found by bisection; above, the expansion errs by less than 1e-7."""


def probability(t: Float[np.ndarray, "*shape"], freedom: int) -> Float[np.ndarray, "*shape"]:
    """Return the probabilities that T is between -t and t, for positive t.

    Args:
        t: values of the t statistic.
        freedom: degrees of freedom, at least 1.

    Source: Abramowitz and Stegun 1964, Handbook of Mathematical Functions, equations 26.7.3 and 26.7.4
    """
    cosine = 1 / np.sqrt(1 + t**2 / freedom)
    odd, sine = freedom % 2, np.sqrt(1 - cosine**2)
    term, total = (cosine if odd else np.ones_like(t)), np.zeros_like(t)
    for power in range(1 if odd else 0, freedom - 1, 2):
        total = total + term
        term = term * (cosine**2 * (power + 1) / (power + 2))
    total = total * sine
    return 2 / math.pi * (np.arccos(cosine) + total) if odd else total


@lru_cache(maxsize=4096)
def quantile(level: float, freedom: int) -> float:
    """Return the t such that T is between -t and t with some probability: 2.776 for 0.95 and 4 degrees of freedom."""
    if freedom > EXACT:
        return _expansion(level, freedom)
    low, high = 0.0, 1.0
    for _ in range(60):  # bisect the angle whose tangent is t / sqrt(freedom), as a part of a right angle
        middle = (low + high) / 2
        t = np.array([math.sqrt(freedom) * math.tan(middle * math.pi / 2)])
        low, high = (middle, high) if probability(t, freedom)[0] < level else (low, middle)
    return math.sqrt(freedom) * math.tan(low * math.pi / 2)


def _expansion(level: float, freedom: int) -> float:
    """Return the quantile from that of the normal distribution.

    Source: Abramowitz and Stegun 1964, equation 26.7.5
    """
    x = NormalDist().inv_cdf((1 + level) / 2)
    terms = (
        (x**3 + x) / 4,
        (5 * x**5 + 16 * x**3 + 3 * x) / 96,
        (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
        (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / 92160,
    )
    return x + sum(term / freedom**power for power, term in enumerate(terms, start=1))
