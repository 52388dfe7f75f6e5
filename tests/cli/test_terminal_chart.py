"""A chart of characters: what sets its scale, and that it keeps to its size."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanotx.cli.chart import ASCII, UNICODE, Chart, draw, nice_ticks, spark, tick_labels, value_range

VALUES = st.floats(-1e6, 1e6, allow_subnormal=False)
POINTS = st.lists(st.tuples(st.integers(1, 10**6).map(float), VALUES), min_size=2, max_size=60).map(sorted)


def falling(steps=1000, floor=1.5):
    """A loss that falls steeply at first."""
    return [(float(step), floor + 3 * math.exp(-step / 20)) for step in range(1, steps + 1)]


def text(lines):
    return "\n".join("".join(part for part, _ in line) for line in lines)


def test_first_steps_do_not_flatten_the_curve_and_their_height_is_printed():
    chart = Chart(curve=falling(), values=[])
    low, high = value_range(chart)
    assert low < 1.5 and high < 1.6
    assert "↑ to 4.354" in text(draw(chart, 60, 10, UNICODE))


def test_first_steps_set_the_scale_where_they_stretch_it_little():
    straight = [(float(step), 2 - step / 1000) for step in range(1, 1001)]
    assert value_range(Chart(curve=straight, values=[]))[1] > straight[0][1]


def test_newest_values_set_the_scale_so_that_divergence_is_seen():
    assert value_range(Chart(curve=[*falling(), (1001.0, 50.0)], values=[]))[1] > 50
    assert value_range(Chart(curve=falling(), values=[(1000.0, 9.0)]))[1] > 9


def test_single_spike_does_not_flatten_the_curve():
    curve = falling()
    curve[500] = (501.0, 1e4)
    chart = Chart(curve=curve, values=[])
    assert value_range(chart)[1] < 2 and "↑ to 1e+04" in text(draw(chart, 60, 10, UNICODE))


def test_floor_is_on_the_scale_where_it_is_near():
    near, far = (Chart(curve=[(1.0, 2.0), (9.0, 1.0)], values=[], level=level) for level in (0.5, -9.0))
    assert value_range(near)[0] < 0.5 and value_range(far)[0] > 0.5
    assert "┈┈" in text(draw(near, 40, 8, UNICODE)) and "┈" not in text(draw(far, 40, 8, UNICODE))


def test_curve_goes_down_and_right_as_the_loss_falls():
    rows = text(draw(Chart(curve=[(1.0, 3.0), (2.0, 2.0), (3.0, 1.0)], values=[]), 30, 7, ASCII)).splitlines()
    columns = [row.find("#", row.index("|") + 1) for row in rows if "|" in row]
    assert columns == sorted(columns) and columns[0] < columns[-1]


def test_best_value_and_marks_of_events_are_drawn():
    chart = Chart(
        curve=[(1.0, 3.0), (100.0, 1.0)], values=[(50.0, 2.0), (100.0, 1.5)], best=(100.0, 1.5), rules=[50],
        marks=[(50, "R", "blue")],
    )  # fmt: skip
    drawn = text(draw(chart, 40, 9, UNICODE))
    assert drawn.count("●") == drawn.count("★") == 1 and "┊" in drawn and "R" in drawn.splitlines()[-2]


@given(POINTS, st.integers(12, 90), st.integers(3, 30), st.sampled_from([UNICODE, ASCII]))
def test_chart_of_any_values_keeps_to_its_size(points, width, height, glyphs):
    chart = Chart(curve=points, values=points[:5], best=points[0], level=points[0][1], rules=[1], marks=[(1, "R", "")])
    lines = text(draw(chart, width, height, glyphs)).splitlines()
    assert len(lines) == height
    assert max(map(len, lines)) <= width
    assert glyphs is UNICODE or text(draw(chart, width, height, glyphs)).isascii()


@given(st.floats(1e-6, 1e6), st.floats(-1e6, 1e6), st.integers(2, 12))
def test_ticks_are_in_range_and_told_apart(size, low, most):
    ticks = nice_ticks(low, low + size, most)
    slack = 1e-12 * size  # of rounding
    assert all(low - slack <= tick <= low + size + slack for tick in ticks) and len(ticks) <= most + 1
    labels = tick_labels(ticks)
    assert len(set(labels)) == len(labels) or size < 1e-4 or abs(low) + size > 1e5


@given(st.lists(st.floats(0, 10), max_size=300))
def test_spark_has_a_bar_for_each_share_of_the_values(losses):
    assert len(spark(losses)) == (min(72, len(losses)) if len(losses) > 1 else 0)


def test_spark_falls_as_the_values_do():
    assert spark([8.0, 4.0, 0.0]) == "█▅▁"


@pytest.mark.parametrize("value", [0.0, 1.5, -3.0, 1e20])
def test_constant_curve_is_no_error(value):
    assert len(draw(Chart(curve=[(1.0, value), (2.0, value)], values=[]), 40, 8, UNICODE)) == 8
