"""Power laws of a loss in FLOPs: fitted seed by seed, with intervals, and where those of two arms cross.

A fit is a straight line through the logarithms: loss - floor = scale x (FLOPs / reference)^-exponent. Each seed has a
line of its own, and intervals are Student's t over these lines: they hold for other seeds, not for other sizes, and say
nothing about whether a straight line is the truth. `Fit.misfit` says how far the points are from it.

Source: Kaplan et al. 2020, https://arxiv.org/abs/2001.08361, equation 1.3, with a floor that is given, not fitted
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from nanotx.errors import ConfigError
from nanotx.experiments import student

LEVEL = 0.95
"""Of all intervals."""

Losses = Float[np.ndarray, "seeds sizes"]
Seeds = Sequence[float]
Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Fit:
    """The power law of an arm."""

    exponent: float
    exponent_interval: Interval | None  # None with one seed
    scale: float  # the loss above the floor at `reference` FLOPs
    reference: float  # FLOPs: the geometric mean of the sizes
    floor: float
    misfit: float  # the largest distance of a size's mean loss from the line, as a share of the loss above the floor
    slopes: tuple[float, ...]  # by seed, of log loss in log FLOPs
    heights: tuple[float, ...]  # by seed, the log of the loss above the floor at the reference

    def loss(self, flops: float) -> float:
        """Return the loss of the mean line at a number of FLOPs."""
        return self.floor + self.scale * (flops / self.reference) ** -self.exponent


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """Where the lines of two arms cross, in FLOPs."""

    flops: float | None  # of the mean lines; None where they are parallel
    interval: Interval | None  # None where these seeds and sizes do not bound it


def fit(flops: Sequence[float], losses: Losses, floor: float = 0.0, reference: float = 0.0) -> Fit:
    """Fit a power law.

    Args:
        flops: of each size; at least two that differ.
        losses: of each seed at each size.
        floor: a loss that no model can go below, in the unit of the losses.
        reference: FLOPs at which `scale` is the loss; the geometric mean of the sizes if it is 0.

    Raises:
        ConfigError: a loss is not above the floor, or all sizes have the same FLOPs.
    """
    x, above = np.log(np.asarray(flops, dtype=float)), np.asarray(losses, dtype=float) - floor
    if not (above > 0).all():
        raise ConfigError(f"--floor {floor:g}: a loss of {above.min() + floor:.4f} is not above it; try a lower floor.")
    reference = reference or float(np.exp(x.mean()))
    x = x - math.log(reference)
    if np.ptp(x) == 0:
        raise ConfigError("a power law needs sizes that differ in their FLOPs.")
    y = np.log(above)
    centred = x - x.mean()
    slopes = (y * centred).sum(axis=1) / (centred**2).sum()
    heights = y.mean(axis=1) - slopes * x.mean()
    slope, height = float(slopes.mean()), float(heights.mean())
    misfit = float(np.abs(np.exp(y.mean(axis=0) - (height + slope * x)) - 1).max())
    interval = interval_of(-slopes)
    return Fit(
        exponent=-slope,
        exponent_interval=interval,
        scale=math.exp(height),
        reference=reference,
        floor=floor,
        misfit=misfit,
        slopes=tuple(map(float, slopes)),
        heights=tuple(map(float, heights)),
    )


def interval_of(values: Float[np.ndarray, " seeds"]) -> Interval | None:
    """Return the interval of a mean by Student's t; None for fewer than two values."""
    count = len(values)
    if count < 2:
        return None
    half = student.quantile(LEVEL, count - 1) * float(values.std(ddof=1)) / math.sqrt(count)
    return float(values.mean()) - half, float(values.mean()) + half


def crossing(first: Fit, second: Fit) -> Crossing:
    """Return where the lines of two arms of the same seeds cross.

    The interval holds the FLOPs at which the paired difference of the lines cannot be told from zero.

    Args:
        first: of an arm.
        second: of the other, with the same reference and floor.

    Source: Fieller 1954, Some Problems in Interval Estimation, Journal of the Royal Statistical Society B 16, 175-185
    """
    heights = np.array(second.heights) - np.array(first.heights)
    slopes = np.array(second.slopes) - np.array(first.slopes)
    count, height, slope = len(heights), float(heights.mean()), float(slopes.mean())
    flops = None if slope == 0 else scaled(first.reference, -height / slope)
    if count < 2:
        return Crossing(flops=flops, interval=None)
    weight = student.quantile(LEVEL, count - 1) ** 2 / count
    covariance = np.cov(heights, slopes)
    square = slope**2 - weight * covariance[1, 1]
    middle = height * slope - weight * covariance[0, 1]
    rest = height**2 - weight * covariance[0, 0]
    inside = middle**2 - square * rest
    if square <= 0 or inside < 0:
        return Crossing(flops=flops, interval=None)
    low, high = ((-middle + sign * math.sqrt(inside)) / square for sign in (-1, 1))
    ends = scaled(first.reference, low), scaled(first.reference, high)
    return Crossing(flops=flops, interval=None if None in ends else (ends[0] or 0.0, ends[1] or 0.0))


def scaled(reference: float, log: float) -> float | None:
    """Return the FLOPs at a distance from the reference; None for a number that means nothing."""
    return reference * math.exp(log) if abs(log) < 100 else None


def worth(baseline: Fit, flops: tuple[float, float], losses: tuple[Seeds, Seeds]) -> tuple[float, Interval | None]:
    """Return of how many times an arm's FLOPs the baseline would need to reach its loss, with the interval.

    From the baseline's own loss, along its line: what the line misses at this size does not count.

    Args:
        baseline: its power law.
        flops: of the baseline and of the arm.
        losses: of both, by seed.
    """
    own, other = (np.log(np.asarray(some, dtype=float) - baseline.floor) for some in losses)
    logs = math.log(flops[0] / flops[1]) + (other - own) / np.array(baseline.slopes)
    interval = interval_of(logs)
    return math.exp(float(logs.mean())), None if interval is None else (math.exp(interval[0]), math.exp(interval[1]))
