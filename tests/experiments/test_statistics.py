"""The statistics of `nanotx compare`, tested on simulated experiments whose truth is known.

Each simulation has a fixed seed, so it passes or fails for good. A rate has to be in the range that 999 of 1,000
binomial samples of the stated probability are in.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from nanotx.errors import ConfigError
from nanotx.experiments import student
from nanotx.experiments.statistics import (
    BETTER,
    SAME,
    UNKNOWN,
    WORSE,
    Decisions,
    decide,
    holm,
    judge,
    more_seeds,
    pairing_gain,
    sign_flips,
    spending,
)

EXPERIMENTS = 2000
SPREAD = 0.0065  # standard deviation of a loss between seeds, in nats, as docs/log.md has it
OWN = 0.002  # of it, what a pair does not share
LOOKS = (5, 8, 12)
Array = NDArray[np.float64]


def losses(seed: int, seeds: int, *effects: float) -> tuple[Array, Array]:
    """Return the losses of baselines, and of an arm per effect, that share what a seed does."""
    rng, shape = np.random.default_rng(seed), (EXPERIMENTS, len(effects), seeds)
    shared = rng.normal(1.9, SPREAD, (EXPERIMENTS, seeds))
    arms = shared[:, None] + np.array(effects)[:, None] + rng.normal(0, OWN, shape)
    return shared + rng.normal(0, OWN, shared.shape), arms


def decisions(base: Array, arms: Array, looks: Sequence[int] = (), smallest: float = 1e-9) -> Decisions:
    return decide(base, arms, smallest=smallest, alpha=0.05, looks=looks or (base.shape[1],))


def alarms(made: Decisions) -> int:
    """Return in how many experiments an arm is called better or worse."""
    return int(np.isin(made.outcome, (BETTER, WORSE)).any(axis=1).sum())


def binomial_range(probability: float, count: int = EXPERIMENTS, outside: float = 0.001) -> tuple[int, int]:
    """Return the central range of successes that all but this share of samples are in."""
    logs = [
        math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1)
        + k * math.log(probability) + (count - k) * math.log1p(-probability)
        for k in range(count + 1)
    ]  # fmt: skip
    below = list(itertools.accumulate(map(math.exp, logs)))
    low = next(k for k, total in enumerate(below) if total > outside / 2)
    return low, next(k for k, total in enumerate(below) if total >= 1 - outside / 2)


LOW, HIGH = binomial_range(0.05)


def test_binomial_range_is_that_of_a_small_case_by_hand():
    assert binomial_range(0.5, count=4, outside=0.2) == (1, 3)


def test_many_experiments_at_once_are_decided_like_each_alone():
    base, arms = (part[:12] for part in losses(21, 12, 0.0, 0.003, -0.004))
    arms[7, 1, 2] = base[9, 3] = math.nan
    for looks in ((), LOOKS):
        made = decisions(base, arms, looks, smallest=0.003)
        for index in range(len(base)):
            verdicts = judge(
                base[index], dict(zip("abc", arms[index], strict=True)), looks=looks, smallest=0.003, resamples=0
            )
            assert [verdict.outcome for verdict in verdicts.values()] == [
                ("unknown", "better", "worse", "same", "diverged")[code] for code in made.outcome[index]
            ]


# A/A: arms that equal the baseline.


def test_equal_arm_is_called_different_as_often_as_alpha_says():
    assert LOW <= alarms(decisions(*losses(0, 5, 0.0))) <= HIGH


@pytest.mark.parametrize("arms", [3, 8])
def test_several_equal_arms_together_raise_no_more_alarms_than_alpha(arms):
    assert LOW / 3 < alarms(decisions(*losses(arms, 5, *[0.0] * arms))) <= HIGH  # conservative, but not by much


@pytest.mark.parametrize("arms", [1, 3])
def test_looking_three_times_raises_no_more_alarms_than_alpha(arms):
    for smallest in (1e-9, 0.002):  # with the larger, many arms are left early as having no difference
        assert LOW / 4 < alarms(decisions(*losses(arms, LOOKS[-1], *[0.0] * arms), LOOKS, smallest)) <= HIGH


# Planted effects.


def power_in_theory(effect: float, seeds: int) -> float:
    """Return the power of the paired t test, by sampling normal means and chi-squared variances."""
    freedom, spread, rng = seeds - 1, OWN * math.sqrt(2), np.random.default_rng(99)
    scale = np.sqrt(rng.chisquare(freedom, 200_000) / freedom)
    z = rng.normal(effect / spread * math.sqrt(seeds), 1, 200_000)
    return float((np.abs(z) > student.quantile(0.95, freedom) * scale).mean())


@pytest.mark.parametrize("effect", [0.003, 0.005])
def test_planted_harm_is_found_with_the_power_of_theory_and_called_worse(effect):
    outcome = decisions(*losses(4, 5, effect)).outcome
    low, high = binomial_range(power_in_theory(effect, 5))
    assert low <= (outcome == WORSE).sum() <= high and (outcome == BETTER).sum() <= 2


def test_proposed_number_of_seeds_finds_the_effect_with_the_stated_power():
    seeds = 3 + (more_seeds(0.0, OWN * math.sqrt(2), 3, 0.003, 0.05) or 0)
    worse = (decisions(*losses(6, seeds, 0.003)).outcome == WORSE).mean()
    assert 0.78 <= worse <= 0.9


def test_looking_three_times_finds_nearly_as_much_as_one_look_at_the_end():
    base, arms = losses(7, LOOKS[-1], 0.003)
    assert alarms(decisions(base, arms, LOOKS)) > 0.8 * alarms(decisions(base, arms))


# Intervals.


def test_interval_covers_the_truth_as_often_as_it_says():
    made = decisions(*losses(8, 5, 0.004))
    low, high = binomial_range(0.95)
    assert low <= ((made.low <= 0.004) & (made.high >= 0.004)).sum() <= high


@pytest.mark.parametrize("looks", [(), LOOKS])
def test_intervals_of_several_arms_agree_with_the_outcomes_and_cover_at_least_as_often(looks):
    effects = np.array([0.0, 0.003, -0.004, 0.01])
    made = decisions(*losses(9, 12, *effects), looks, smallest=0.004)
    inside = np.maximum(-made.low, made.high) <= 0.004
    excluded = (made.low > 0) | (made.high < 0)
    assert ((made.high < 0) == (made.outcome == BETTER)).all()
    assert ((made.low > 0) == (made.outcome == WORSE)).all()
    assert ((inside & ~excluded) == (made.outcome == SAME)).all()
    covered = ((made.low <= effects) & (made.high >= effects)).sum(axis=0)
    assert (covered >= binomial_range(0.95)[0]).all()


# Mutants: each way to fool oneself is caught by the checks above.


def test_unpaired_test_is_caught_by_its_power():
    base, arms = losses(10, 5, 0.005)
    pooled = np.sqrt((base.var(axis=1, ddof=1) + arms[:, 0].var(axis=1, ddof=1)) / 5)
    result = np.abs(arms[:, 0].mean(axis=1) - base.mean(axis=1)) / pooled > student.quantile(0.95, 8)
    assert result.sum() < binomial_range(power_in_theory(0.005, 5))[0] / 2


def test_validation_peeked_at_is_caught_as_false_alarms():
    base, arms = losses(11, 5, 0.0)
    noise = np.random.default_rng(12).normal(0, OWN, (EXPERIMENTS, 4, 5))
    best = (arms + noise).min(axis=1, keepdims=True)  # of four checkpoints, by the text that judges
    assert alarms(decisions(base + noise[:, 0], best)) > HIGH
    last = (arms + noise)[:, 3:]
    assert alarms(decisions(base + noise[:, 0], last)) <= HIGH


def test_stopping_early_without_paying_is_caught_as_false_alarms():
    base, arms = losses(13, LOOKS[-1], 0.0)
    looks = [decisions(base[:, :size], arms[:, :, :size]).outcome != UNKNOWN for size in LOOKS]
    assert np.logical_or.reduce(looks).sum() > HIGH


def test_one_arm_tuned_more_is_caught_as_false_alarms():
    runs = np.random.default_rng(14).normal(1.9, OWN, (EXPERIMENTS, 9, 5))  # a field that cannot matter, tried 8 times
    best = runs[:, 1:].mean(axis=2).argmin(axis=1)
    picked = np.take_along_axis(runs[:, 1:], best[:, None, None], axis=1)
    assert alarms(decisions(runs[:, 0], picked)) > HIGH
    other_seeds = np.random.default_rng(15).normal(1.9, OWN, (EXPERIMENTS, 2, 5))  # of the picks of both arms
    assert LOW <= alarms(decisions(other_seeds[:, 0], other_seeds[:, 1:])) <= HIGH


# Small cases by hand.


@pytest.mark.parametrize(
    ("level", "freedom", "wanted"),
    [(0.95, 1, 12.7062), (0.95, 4, 2.77645), (0.99, 9, 3.24984), (0.95, 30, 2.04227), (0.999, 3, 12.9240)],
)
def test_students_quantile_is_that_of_the_printed_tables(level, freedom, wanted):
    assert student.quantile(level, freedom) == pytest.approx(wanted, rel=1e-5)
    assert student.probability(np.array([wanted]), freedom) == pytest.approx(level, abs=1e-5)


@pytest.mark.parametrize("level", [0.6, 0.95, 0.999])
def test_students_quantile_has_no_step_where_the_expansion_takes_over(level):
    t = np.array([student.quantile(level, student.EXACT + 1)])
    assert student.probability(t, student.EXACT + 1) == pytest.approx(level, abs=1e-8)


def flips_by_hand(values: Sequence[float]) -> float:
    choices = itertools.product((1, -1), repeat=len(values))
    sums = [abs(sum(sign * value for sign, value in zip(signs, values, strict=True))) for signs in choices]
    return sum(total >= abs(sum(values)) - 1e-12 for total in sums) / len(sums)


@pytest.mark.parametrize(
    "values", [[1, 2, 3, 4, 5], [1, -1, 1, 1], [0, 0, 1], [0.1, 0.2, -0.3, 0.4], [0.3, 0.3, 0.3, -0.3], [1.0], [-2, -2]]
)
def test_sign_flips_count_every_choice_of_signs_ties_included(values):
    assert sign_flips(np.array(values, dtype=float)) == flips_by_hand(values)


def test_sign_flips_of_random_differences_equal_the_slow_count():
    rng = np.random.default_rng(5)
    for size in range(1, 11):
        values = rng.integers(-3, 4, size) / 7  # many ties
        assert sign_flips(values) == flips_by_hand(list(values))


def test_five_seeds_cannot_go_below_a_sixteenth_by_sign_flips():
    verdict = judge([1.0] * 5, {"arm": [0.9, 0.91, 0.92, 0.93, 0.94]})["arm"]
    assert verdict.outcome == "better" and verdict.p_flips == 2 / 2**5


def test_sign_flips_of_forty_pairs_are_exact_and_of_more_are_left_out():
    assert sign_flips(np.full(40, 0.5)) == 2 / 2**40
    assert sign_flips(np.full(41, 0.5)) is None


def test_holm_steps_down_from_the_smallest_p():
    threshold, adjusted, rejected = holm(np.array([[0.012, 0.4, 0.02, 0.001]]), 0.05, np.array([4]))
    assert rejected.tolist() == [[True, False, True, True]]
    assert threshold[0] == pytest.approx([0.05 / 3, 0.05, 0.05 / 2, 0.05 / 4])
    assert adjusted[0] == pytest.approx([0.036, 0.4, 0.04, 0.004])


def test_holm_stops_at_the_first_that_is_not_rejected_and_counts_those_without_a_p():
    threshold, adjusted, rejected = holm(np.array([[0.03, 0.026, math.nan]]), 0.05, np.array([3]))
    assert not rejected.any()
    assert threshold[0] == pytest.approx([0.05 / 3] * 3)
    assert adjusted[0, :2] == pytest.approx([0.078, 0.078])


def test_arm_that_diverged_counts_among_the_arms():
    base, arm = [1.0, 1.0, 1.0, 1.0, 1.0], [0.98, 0.99, 0.97, 0.985, 0.975]
    alone = judge(base, {"arm": arm})["arm"]
    beside = judge(base, {"arm": arm, "other": [None] * 5})["arm"]
    assert beside.level == 0.975 and alone.level == 0.95


def test_spending_adds_up_to_alpha_and_leaves_something_for_each_look():
    shares = spending((5, 8, 12))
    assert sum(shares) == pytest.approx(0.05) and min(shares) > 0.008
    assert spending((7,)) == pytest.approx([0.05])


# What is not decided.


@pytest.mark.parametrize(("count", "interval"), [(0, False), (1, False), (2, True)])
def test_fewer_than_three_seeds_decide_nothing(count, interval):
    verdict = judge([1.0, 1.1][:count], {"arm": [0.5, 0.6001][:count]})["arm"]
    assert verdict.outcome == "unknown" and verdict.reason and (verdict.interval is not None) == interval


def test_no_spread_decides_nothing():
    equal = judge([1.0, 1.1, 1.2], {"arm": [1.0, 1.1, 1.2]})["arm"]
    assert equal.outcome == "unknown" and "every loss equals" in equal.reason
    shifted = judge([1.0, 1.5, 2.0], {"arm": [0.5, 1.0, 1.5]})["arm"]
    assert shifted.outcome == "unknown" and "no spread" in shifted.reason


@pytest.mark.parametrize("lost", [None, math.nan, math.inf])
def test_arm_that_diverged_on_a_seed_is_not_better_whatever_the_others_say(lost):
    verdict = judge([1.0, 1.1, 1.2, 1.0], {"arm": [0.5, 0.61, lost, 0.53]})["arm"]
    assert verdict.outcome == "diverged" and (verdict.diverged, verdict.seeds) == (1, 4)
    assert verdict.mean == pytest.approx((0.5 + 0.61 + 0.53) / 3)


def test_baseline_that_diverged_gives_no_verdict():
    verdicts = judge([1.0, None, 1.2], {"a": [0.5, 0.6, 0.7], "b": [None, None, None]})
    assert {verdict.outcome for verdict in verdicts.values()} == {"unknown"}
    assert "baseline diverged on 1 of 3" in verdicts["a"].reason


def test_narrow_interval_around_zero_says_how_large_a_difference_can_be():
    base, arm = [1.0, 1.1, 1.2, 1.3], [1.001, 1.099, 1.201, 1.299]
    verdict = judge(base, {"arm": arm}, smallest=0.01)["arm"]
    assert verdict.outcome == "same" and verdict.bound == pytest.approx(0.00184, abs=1e-5)
    wide = judge(base, {"arm": arm}, smallest=0.0005)["arm"]
    assert wide.outcome == "unknown" and wide.more is not None and wide.more > 30


def test_undecidable_number_of_seeds_is_not_proposed():
    assert more_seeds(0.0, 1.0, 5, 1e-4, 0.05) is None


def test_decided_arm_needs_no_losses_after_its_look():
    base, arms = losses(11, 8, 0.05, 0.0005)
    verdicts = judge(base[0], {"clear": arms[0, 0, :5], "unclear": arms[0, 1]}, looks=LOOKS, smallest=0.0001)
    assert (verdicts["clear"].outcome, verdicts["clear"].look, verdicts["clear"].seeds) == ("worse", 1, 5)
    assert (verdicts["unclear"].outcome, verdicts["unclear"].look, verdicts["unclear"].seeds) == ("unknown", 2, 8)


def test_verdict_of_an_early_look_is_kept():
    base = [1.0] * 12
    arm = [0.90, 0.91, 0.92, 0.90, 0.91, *[1.2] * 7]
    assert judge(base, {"arm": arm}, looks=LOOKS)["arm"].outcome == "better"


def test_before_the_first_look_nothing_is_said():
    verdict = judge([1.0, 1.1], {"arm": [1.0, 1.2]}, looks=(5, 8))["arm"]
    assert verdict.outcome == "unknown" and verdict.look == 1 and verdict.interval is None and verdict.reason
    four = judge([1.0, 1.1, 1.2, 1.3], {"arm": [1.0, 1.2, 1.3, 1.5]}, looks=(5, 8))["arm"]
    assert four.outcome == "unknown" and "after 5 seeds" in four.reason


def test_gain_of_pairing_is_the_ratio_of_the_variances():
    base, arms = (part.reshape(-1) for part in losses(1, 10, 0.0))
    assert pairing_gain([base], [arms]) == pytest.approx((SPREAD**2 + OWN**2) / OWN**2, rel=0.05)
    assert judge(base[:9], {"arm": arms[:9]})["arm"].gain == pairing_gain([base[:9]], [arms[:9]])


def test_bootstrap_is_the_same_each_time_and_near_the_interval():
    base, arms = losses(2, 30, 0.004)
    first, second = (judge(base[0], {"arm": arms[0, 0]})["arm"] for _ in range(2))
    assert first == second and first.bootstrap is not None and first.interval is not None
    assert first.bootstrap == pytest.approx(first.interval, abs=2e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"arms": {"a": [1.0]}}, "a has 1 losses, and the baseline 3"),
        ({"looks": (5, 3)}, "expected ascending"),
        ({"alpha": 0.0}, "alpha: expected a probability"),
        ({"smallest": 0.0}, "smallest: expected"),
    ],
)
def test_numbers_that_do_not_fit_together_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        judge([1.0, 1.1, 1.2], **{"arms": {"a": [1.0, 1.1, 1.2]}, **arguments})
