"""A curve in bounded memory has the mean of its values, however many there are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanotx.runs.curve import MOST_SPANS, Curve


def curve_of(values):
    curve = Curve()
    for step, value in values:
        curve.add(step, value)
    return curve


@given(st.dictionaries(st.integers(1, 10**12), st.floats(-100, 100), min_size=1, max_size=50))
def test_curve_keeps_the_mean_of_all_values_in_bounded_memory(values):
    curve = curve_of(sorted(values.items()))
    assert len(curve.sums) <= MOST_SPANS and sum(curve.counts) == len(values)
    assert sum(curve.sums) == pytest.approx(sum(values.values()), abs=1e-6)
    steps = [step for step, _ in curve.points()]
    assert steps == sorted(steps) and len(steps) <= len(values)


def test_few_steps_are_kept_one_by_one():
    assert curve_of([(1, 3.0), (2, 2.0), (4, 1.0)]).points() == [(1, 3.0), (2, 2.0), (4, 1.0)]


def test_many_steps_are_means_over_spans():
    curve = curve_of((step, float(step)) for step in range(1, 2 * MOST_SPANS + 1))
    assert curve.span == 2 and curve.points()[:2] == [(1.5, 1.5), (3.5, 3.5)]
    assert curve_of((step, float(step)) for step in range(1, 5000)).span == 8


def test_step_zero_and_steps_out_of_order_are_no_error():
    assert curve_of([(5, 1.0), (0, 3.0), (1, 5.0)]).points() == [(1, 4.0), (5, 1.0)]
