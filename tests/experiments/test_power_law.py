"""Power laws: a planted one is found again, its intervals cover as stated, and crossings are where they were put."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanotx.errors import ConfigError
from nanotx.experiments.power_law import crossing, fit, worth

FLOPS = (1e9, 1e10, 1e11, 1e12)


def losses_of(scale, exponent, noise=0.0, seeds=3, floor=0.0, draw=None):
    """Losses of a law, whose logarithms have noise: what all sizes of a seed share, and what each has alone."""
    draw = draw or np.random.default_rng(0)
    lines = np.log(scale) - exponent * np.log(np.array(FLOPS) / 1e10)
    return floor + np.exp(lines + noise * draw.normal(size=(seeds, 1)) + noise * draw.normal(size=(seeds, len(FLOPS))))


@given(scale=st.floats(0.5, 10), exponent=st.floats(0.01, 0.5), floor=st.floats(0, 2))
def test_planted_law_is_found_again(scale, exponent, floor):
    law = fit(FLOPS, losses_of(scale, exponent, floor=floor), floor)
    assert law.exponent == pytest.approx(exponent, rel=1e-6)
    assert law.reference == pytest.approx(10**10.5)
    for flops in (*FLOPS, 1e14):
        assert law.loss(flops) == pytest.approx(floor + scale * (flops / 1e10) ** -exponent, rel=1e-6)
    assert law.misfit < 1e-9
    assert law.exponent_interval == pytest.approx((exponent, exponent), rel=1e-6)


def test_interval_of_the_exponent_covers_as_stated():
    draw, inside = np.random.default_rng(1), 0
    for _ in range(2000):
        low, high = fit(FLOPS, losses_of(3.0, 0.1, 0.01, seeds=4, draw=draw)).exponent_interval
        inside += low <= 0.1 <= high
    assert abs(inside / 2000 - 0.95) < 3 * math.sqrt(0.95 * 0.05 / 2000)


def test_interval_of_the_crossing_covers_as_stated():
    draw, inside, bounded = np.random.default_rng(2), 0, 0
    for _ in range(2000):
        first = fit(FLOPS, losses_of(3.0, 0.10, 0.002, seeds=4, draw=draw))
        second = fit(FLOPS, losses_of(3.0, 0.12, 0.002, seeds=4, draw=draw))
        found = crossing(first, second)
        if found.interval is None:  # the set of places that are possible is not one interval
            continue
        bounded += 1
        inside += found.interval[0] <= 1e10 <= found.interval[1]
    assert bounded > 1900
    assert abs(inside / bounded - 0.95) < 0.02


@given(seed=st.integers(0, 2**20), reference=st.floats(1e6, 1e15))
def test_reference_changes_no_law_and_no_crossing(seed, reference):
    draw = np.random.default_rng(seed)
    arms = [losses_of(3.0, exponent, 0.003, seeds=4, draw=draw) for exponent in (0.10, 0.12)]
    here, there = ([fit(FLOPS, losses, reference=at) for losses in arms] for at in (0.0, reference))
    for one, other in zip(here, there, strict=True):
        assert other.loss(3e10) == pytest.approx(one.loss(3e10), rel=1e-9)
        assert other.misfit == pytest.approx(one.misfit, rel=1e-6, abs=1e-12)
    assert crossing(*there).flops == pytest.approx(crossing(*here).flops, rel=1e-6)
    assert crossing(*there).interval == (
        None if crossing(*here).interval is None else pytest.approx(crossing(*here).interval, rel=1e-5)
    )


def test_noise_that_arms_share_costs_nothing():
    shared = losses_of(3.0, 0.1, 0.05, draw=np.random.default_rng(3))
    second = shared * (np.array(FLOPS) / 3e11) ** -0.01
    found = crossing(fit(FLOPS, shared), fit(FLOPS, second))
    assert found.flops == pytest.approx(3e11, rel=1e-6)
    assert found.interval == pytest.approx((3e11, 3e11), rel=1e-6)


def test_lines_that_never_cross_have_no_crossing():
    first, second = losses_of(3.0, 0.1), losses_of(2.9, 0.1)
    found = crossing(fit(FLOPS, first), fit(FLOPS, second))
    assert found.flops is None or not 1e-3 < found.flops / 1e10 < 1e3
    noisy = [fit(FLOPS, losses_of(scale, 0.1, 0.02, draw=np.random.default_rng(4))) for scale in (3.0, 2.9)]
    assert crossing(*noisy).interval is None


def test_one_seed_has_no_intervals():
    law = fit(FLOPS, losses_of(3.0, 0.1, seeds=1))
    assert law.exponent_interval is None
    assert crossing(law, fit(FLOPS, losses_of(3.0, 0.2, seeds=1))).interval is None
    assert worth(law, (1e12, 1e12), ([2.0], [1.9]))[1] is None


def test_worth_is_the_compute_that_the_baseline_lacks():
    law = fit(FLOPS, losses_of(3.0, 0.1))
    at = [law.loss(1e12)] * 3
    times, interval = worth(law, (1e12, 1e12), (at, [law.loss(2e12)] * 3))
    assert times == pytest.approx(2.0)
    assert interval == pytest.approx((2.0, 2.0))
    assert worth(law, (1e12, 2e12), (at, [law.loss(2e12)] * 3))[0] == pytest.approx(1.0)
    assert worth(law, (1e12, 1e12), (at, at))[0] == pytest.approx(1.0)


def test_loss_below_the_floor_and_equal_sizes_are_refused():
    with pytest.raises(ConfigError, match=r"--floor 9: a loss of .* is not above it"):
        fit(FLOPS, losses_of(3.0, 0.1), floor=9.0)
    with pytest.raises(ConfigError, match="differ in their FLOPs"):
        fit((1e9, 1e9), np.ones((3, 2)))
