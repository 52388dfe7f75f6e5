"""From the losses of runs to verdicts: paired tests of arms that share their seeds with a baseline.

Two runs of one seed have the same windows, and every initial tensor that they share. What a seed does to a loss, it
does to both, so the *difference* of their losses varies less than the losses. `judge` is the whole of it: plain numbers
go in, verdicts come out, and nothing else is read or written, so simulated experiments test it.

A paired t test decides. Holm's step-down corrects for several arms, a spending function for several looks: both bound
the probability that *any* arm that equals the baseline is called better or worse, over all arms and looks, by `alpha`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from nanotx.errors import ConfigError
from nanotx.experiments import student

ALPHA = 0.05
"""Probability of any false verdict "better" or "worse" of an experiment."""

SMALLEST = 0.01
"""Default of the smallest difference that matters, in bits per byte."""

POWER = 0.8
"""Probability that the proposed number of seeds detects the difference in question."""

MIN_SEEDS = 3
"""Seeds below which nothing is decided."""

MAX_SEEDS = 1000
"""Seeds above which no number is proposed."""

MAX_FLIPS = 40
"""Pairs up to which all sign-flips are counted."""

Outcome = Literal["unknown", "better", "worse", "same", "diverged"]
OUTCOMES: tuple[Outcome, ...] = ("unknown", "better", "worse", "same", "diverged")
UNKNOWN, BETTER, WORSE, SAME, DIVERGED = range(len(OUTCOMES))
Losses = Sequence[float | None] | NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What can be said of an arm.

    Losses may have any unit. A difference is arm minus baseline, so a negative one is better.
    """

    outcome: Outcome
    reason: str = ""  # why nothing was decided, where it is not the width of the interval
    seeds: int  # pairs that were judged
    diverged: int = 0  # of them, those whose arm has no finite loss
    mean: float | None = None  # of the arm's losses
    difference: float | None = None  # mean of the paired differences
    interval: tuple[float, float] | None = None  # of the difference, by Student's t; agrees with the outcome
    smallest: float = SMALLEST  # the smallest difference that matters, as it was asked
    level: float = 1 - ALPHA  # of the interval; above 1 - alpha where Holm or a look asks for more
    p: float | None = None  # of the paired t test
    p_holm: float | None = None  # the same adjusted for the number of arms
    p_flips: float | None = None  # exact two-sided sign-flip test, for information
    bootstrap: tuple[float, float] | None = None  # percentile interval of the difference, for information
    gain: float | None = None  # variance of an unpaired difference by that of a paired one
    more: int | None = None  # further seeds that would probably decide; None if it is decided or over MAX_SEEDS
    look: int = 1  # at which it was decided, or judged last

    @property
    def bound(self) -> float | None:
        """Return the largest difference that the interval holds, whatever its sign."""
        return None if self.interval is None else max(map(abs, self.interval))

    @property
    def decided(self) -> bool:
        """Return whether more seeds would change nothing."""
        return self.outcome != "unknown"


EQUAL = "every loss equals the baseline's"
"""Reason of a verdict on an arm that is the baseline under another name."""


def judge(
    baseline: Losses,
    arms: Mapping[str, Losses],
    *,
    smallest: float = SMALLEST,
    alpha: float = ALPHA,
    looks: Sequence[int] = (),
    resamples: int = 2000,
) -> dict[str, Verdict]:
    """Return a verdict on each arm.

    Args:
        baseline: its loss of each seed; None or a number that is not finite for a run that diverged.
        arms: of each arm the losses of the same seeds, in the same order. With looks, an arm may end at the look that
            decided it.
        smallest: the smallest difference that matters, in the unit of the losses.
        alpha: the probability of calling any arm better or worse although none is.
        looks: the numbers of seeds after which it was planned to look, ascending; empty for one look at the end.
        resamples: of the bootstrap; 0 for none.

    Raises:
        ConfigError: the numbers of losses do not agree, or the looks do not ascend.
    """
    _check(baseline, arms, looks, alpha, smallest)
    looks = looks or (max(1, len(baseline)),)
    base, lengths = _numbers(baseline, len(baseline)), [len(losses) for losses in arms.values()]
    values = np.array([_numbers(losses, len(baseline)) for losses in arms.values()]).reshape(len(arms), len(baseline))
    decisions = decide(base[None], values[None], smallest=smallest, alpha=alpha, looks=looks, lengths=lengths)
    verdicts = {}
    for index, name in enumerate(arms):
        number = int(decisions.look[0, index])
        size = looks[number - 1] if number else min(len(baseline), *lengths)
        verdicts[name] = _verdict(base[:size], values[index, :size], decisions, index, smallest, resamples)
        if not number and not verdicts[name].reason:
            verdicts[name] = replace(verdicts[name], reason=f"the first look is after {looks[0]} seeds")
    return verdicts


def _check(baseline: Losses, arms: Mapping[str, Losses], looks: Sequence[int], alpha: float, smallest: float) -> None:
    """Raise ConfigError where numbers do not fit together."""
    for name, losses in arms.items():
        if len(losses) != len(baseline) and not (looks and len(losses) in looks):
            raise ConfigError(
                f"judge: {name} has {len(losses)} losses, and the baseline {len(baseline)}; pairs need both of a seed."
            )
    if list(looks) != sorted(set(looks)) or (looks and looks[0] < 1):
        raise ConfigError(f"judge: looks: expected ascending numbers of seeds such as [5, 8, 12], got {list(looks)}.")
    if not 0 < alpha < 1:
        raise ConfigError(f"judge: alpha: expected a probability between 0 and 1, got {alpha!r}.")
    if not smallest > 0:
        raise ConfigError(f"judge: smallest: expected a difference above 0, got {smallest!r}.")


def spending(looks: Sequence[int], alpha: float = ALPHA) -> list[float]:
    """Return the share of alpha that each look may spend; they add up to alpha.

    The spending function of Lan and DeMets that resembles Pocock's bounds: a share for early looks that small samples
    can reach. Looks are added up by Bonferroni's inequality, which assumes nothing of how they depend on each other.

    Source: Lan and DeMets 1983, Discrete sequential boundaries for clinical trials, doi:10.1093/biomet/70.3.659
    """
    spent = [alpha * math.log(1 + (math.e - 1) * size / looks[-1]) for size in looks]
    return [now - before for now, before in zip(spent, [0.0, *spent], strict=False)]


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """The decisions on many experiments at once: the latest result of each arm of each experiment."""

    outcome: Int[np.ndarray, "e a"]  # index into OUTCOMES
    look: Int[np.ndarray, "e a"]  # at which it was decided, or judged last; 0 before the first
    difference: Float[np.ndarray, "e a"]
    error: Float[np.ndarray, "e a"]  # standard error of the difference
    p: Float[np.ndarray, "e a"]  # NaN where no test can be made
    adjusted: Float[np.ndarray, "e a"]
    threshold: Float[np.ndarray, "e a"]
    low: Float[np.ndarray, "e a"]
    high: Float[np.ndarray, "e a"]


def decide(
    base: Float[np.ndarray, "e n"],
    arms: Float[np.ndarray, "e a n"],
    *,
    smallest: float,
    alpha: float,
    looks: Sequence[int],
    lengths: Sequence[int] = (),
) -> Decisions:
    """Decide many experiments of equal form at once, as simulations need; `judge` decides a single one.

    Args:
        base: losses of the baseline per experiment and seed; NaN for a run that diverged.
        arms: losses of the arms.
        smallest, alpha: as for `judge`.
        looks: numbers of seeds after which to look, at least one.
        lengths: losses that each arm has; judging stops at a look that an undecided arm has not reached. Empty for all.
    """
    shape = arms.shape[:2]
    nothing, available = np.full(shape, math.nan), np.array(lengths or [arms.shape[2]] * shape[1], dtype=int)
    zeros = np.zeros(shape, dtype=int)
    decisions = Decisions(outcome=zeros, look=zeros, **dict.fromkeys(("difference", "error", "p", "adjusted"), nothing),
                  threshold=np.full(shape, alpha), low=nothing, high=nothing)  # fmt: skip
    for number, (size, share) in enumerate(zip(looks, spending(looks, alpha), strict=True), start=1):
        undecided = decisions.outcome == UNKNOWN
        if not undecided.any() or size > base.shape[1] or (undecided & (available < size)).any():
            break
        family = (undecided | (decisions.outcome >= SAME)).sum(axis=1)
        now = _one_look(base[:, :size], arms[:, :, :size], undecided, smallest, share, family)
        now = replace(now, look=np.full(shape, number))
        merged = {
            field.name: np.where(undecided, getattr(now, field.name), getattr(decisions, field.name))
            for field in fields(Decisions)
        }
        decisions = Decisions(**merged)
    return decisions


def _one_look(
    base: Float[np.ndarray, "e n"],
    arms: Float[np.ndarray, "e a n"],
    undecided: Bool[np.ndarray, "e a"],
    smallest: float,
    alpha: float,
    family: Int[np.ndarray, " e"],
) -> Decisions:
    """Return the tests of one look at the arms that are undecided; those of the others mean nothing.

    Args:
        base, arms, smallest: as for `decide`.
        undecided: which arms may be decided.
        alpha: what this look may spend.
        family: the number of hypotheses for Holm: the undecided arms, and those found same or diverged earlier.
    """
    size, differences = base.shape[1], arms - base[:, None, :]
    lost, diverged = np.isnan(base).any(axis=1)[:, None], np.isnan(arms).any(axis=2)
    mean = differences.mean(axis=2)
    error = differences.std(axis=2, ddof=1) / math.sqrt(size) if size > 1 else np.full(mean.shape, math.nan)
    flat = ~(error > 1e-12 * np.abs(base).max(axis=1)[:, None])
    testable = undecided & ~lost & ~diverged & ~flat
    error = np.where(testable, error, math.nan)
    p = np.maximum(0.0, 1 - student.probability(mean / error, size - 1)) if size > 1 else error
    threshold, adjusted, rejected = holm(p, alpha, family)
    quantiles = {level: student.quantile(1 - level, size - 1) for level in np.unique(threshold)} if size > 1 else {}
    half = np.vectorize(lambda level: quantiles.get(level, math.nan), otypes=[float])(threshold) * error
    low, high = mean - half, mean + half
    outcome = np.full(mean.shape, UNKNOWN)
    if size >= MIN_SEEDS:
        outcome[np.maximum(-low, high) <= smallest] = SAME
        outcome[rejected & (mean < 0)] = BETTER
        outcome[rejected & (mean > 0)] = WORSE
    outcome[diverged & ~lost] = DIVERGED
    return Decisions(outcome=outcome, look=outcome, difference=mean, error=error, p=p, adjusted=adjusted,
                 threshold=threshold, low=low, high=high)  # fmt: skip


def _numbers(losses: Losses, length: int) -> NDArray[np.float64]:
    """Return losses as numbers, NaN where a run diverged, filled with NaN up to a length."""
    values = np.full(length, math.nan)
    values[: len(losses)] = [math.nan if loss is None or not math.isfinite(loss) else loss for loss in losses]
    return values


def _verdict(
    base: NDArray[np.float64],
    values: NDArray[np.float64],
    decisions: Decisions,
    arm: int,
    smallest: float,
    resamples: int,
) -> Verdict:
    """Return the verdict on an arm of the first experiment of some decisions, from its losses up to its look."""
    size, diverged, lost = len(base), int(np.isnan(values).sum()), int(np.isnan(base).sum())
    outcome, threshold = OUTCOMES[decisions.outcome[0, arm]], float(decisions.threshold[0, arm])
    plain = Verdict(
        outcome=outcome,
        seeds=size,
        diverged=diverged,
        mean=float(np.nanmean(values)) if diverged < size else None,
        smallest=smallest,
        level=1 - threshold,
        look=max(1, int(decisions.look[0, arm])),
    )
    if lost:
        return replace(plain, reason=f"the baseline diverged on {lost} of {size} seeds")
    if diverged or not size:
        return plain if diverged else replace(plain, reason=_too_few(size))
    differences = values - base
    plain = replace(plain, difference=float(differences.mean()), reason=_too_few(size) if size < MIN_SEEDS else "")
    if size < 2 or math.isnan(decisions.p[0, arm]):
        flat = "the differences have no spread" if differences.any() else EQUAL
        return plain if plain.reason else replace(plain, reason=flat if decisions.look[0, arm] else "")
    mean, spread = float(differences.mean()), float(differences.std(ddof=1))
    return replace(
        plain,
        interval=(float(decisions.low[0, arm]), float(decisions.high[0, arm])),
        p=float(decisions.p[0, arm]),
        p_holm=float(decisions.adjusted[0, arm]),
        p_flips=sign_flips(differences),
        bootstrap=_bootstrap(differences, resamples),
        gain=pairing_gain([base], [values]),
        more=more_seeds(mean, spread, size, smallest, threshold) if outcome == "unknown" else None,
    )


def _too_few(size: int) -> str:
    return f"{size} seed{'s' * (size != 1)}, and {MIN_SEEDS} are needed"


def holm(
    p: Float[np.ndarray, "e a"], alpha: float, family: Int[np.ndarray, " e"]
) -> tuple[Float[np.ndarray, "e a"], Float[np.ndarray, "e a"], Bool[np.ndarray, "e a"]]:
    """Apply Holm's step-down; return each hypothesis's threshold, adjusted p, and whether it is rejected.

    An interval of level 1 - threshold excludes zero exactly where the hypothesis is rejected.

    Args:
        p: of the hypotheses of each experiment; NaN for those that cannot be rejected.
        alpha: bound on the probability of any false rejection.
        family: the number of hypotheses of each experiment, at least those that have a p.

    Source: Holm 1979, A simple sequentially rejective multiple test procedure, https://www.jstor.org/stable/4615733
    """
    order = np.argsort(np.where(np.isnan(p), math.inf, p), axis=1, kind="stable")
    ordered, rank = np.take_along_axis(p, order, axis=1), np.arange(p.shape[1])[None]
    left = np.maximum(1, family[:, None] - rank)
    going = np.logical_and.accumulate(ordered <= alpha / left, axis=1)
    threshold = alpha / np.maximum(1, family[:, None] - np.minimum(rank, going.sum(axis=1, keepdims=True)))
    adjusted = np.maximum.accumulate(np.minimum(1.0, ordered * left), axis=1)
    back = np.argsort(order, axis=1, kind="stable")
    threshold, adjusted, rejected = (np.take_along_axis(x, back, axis=1) for x in (threshold, adjusted, going))
    return threshold, adjusted, rejected


def sign_flips(differences: NDArray[np.float64]) -> float | None:
    """Return the exact two-sided p of the sign-flip test of a mean; None above 40 pairs.

    It is the share of all 2**n choices of signs under which the sum is at least as far from zero as the observed one,
    sums that tie with it included. Half of the signs are enumerated at a time, and the halves are matched.

    Source: Fisher 1935, The Design of Experiments, section 21
    """
    size = len(differences)
    if size > MAX_FLIPS:
        return None
    limit = abs(float(differences.sum())) - 1e-9 * float(np.abs(differences).sum())
    if limit <= 0:
        return 1.0
    left, right = (_signed_sums(half) for half in (differences[: size // 2], differences[size // 2 :]))
    right = np.sort(right)
    reaching = len(right) - np.searchsorted(right, limit - left, side="left")
    return 2 * int(reaching.sum()) / 2**size


def _signed_sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sums of values under all choices of signs."""
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    return sums


def _bootstrap(differences: NDArray[np.float64], resamples: int) -> tuple[float, float] | None:
    """Return the 95% percentile interval of the mean of resampled differences; the same numbers give the same one."""
    if not resamples:
        return None
    rows = np.random.default_rng(0).integers(len(differences), size=(resamples, len(differences)))
    low, high = np.quantile(differences[rows].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def pairing_gain(baselines: Sequence[NDArray[np.float64]], arms: Sequence[NDArray[np.float64]]) -> float | None:
    """Return by how much pairing divides the variance of a difference, over several arms; None without spread.

    An unpaired comparison of equal power needs that many times as many seeds.
    """
    pairs = list(zip(baselines, arms, strict=True))
    unpaired = sum(float(base.var(ddof=1) + values.var(ddof=1)) for base, values in pairs if len(base) > 1)
    paired = sum(float((values - base).var(ddof=1)) for base, values in pairs if len(base) > 1)
    return unpaired / paired if paired > 0 else None


def more_seeds(difference: float, spread: float, seeds: int, smallest: float, threshold: float) -> int | None:
    """Return how many further seeds would probably decide; None if that is over `MAX_SEEDS`.

    With that many, four of five experiments find a true difference as large as the one observed, or as `smallest` if
    that is larger, and this one is decided if its mean and spread hold.

    Args:
        difference: the observed mean.
        spread: standard deviation of the paired differences.
        seeds: how many there are.
        smallest: the smallest difference that matters.
        threshold: the p below which the test rejects.
    """

    def enough(size: int) -> bool:
        error = spread / math.sqrt(size)
        half = student.quantile(1 - threshold, size - 1) * error
        wanted = half + student.quantile(2 * POWER - 1, size - 1) * error
        decides = abs(difference) > half or abs(difference) + half <= smallest
        return decides and wanted <= max(abs(difference), smallest)

    low, high = max(seeds, MIN_SEEDS - 1), MAX_SEEDS
    if not enough(high):
        return None
    while high - low > 1:  # `high` is enough; `low` is not, or is the number already run
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high - seeds
