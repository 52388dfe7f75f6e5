"""The points of a sweep are those that its texts state, and a text that states none is refused with what would."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanotx.errors import ConfigError
from nanotx.experiments.vary import MOST, Axis, change_of, draws, grid, read_axes, read_axis, widened


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("optimizer.lr=1e-4:1e-2:log:3", ["0.0001", "0.001", "0.01"]),
        ("optimizer.lr=1e-3:3e-3:3", ["0.001", "0.002", "0.003"]),
        ("model.dim=32:128:log:3", ["32", "64", "128"]),
        ("model.layers=1:3:9", ["1", "2", "3"]),  # whole numbers, once each
        ("schedule.final=0:1.0:2", ["0", "1"]),
        ("model.dim=96, 128", ["96", "128"]),
        ("ffn=relu2,mlp", ["relu2", "mlp"]),
        ("optimizer.weight-decay=0.1", ["0.1"]),
        ('attention={part="gqa", kv_heads=1},sdpa', ['{part="gqa", kv_heads=1}', "sdpa"]),
    ],
)
def test_axis_has_the_values_that_its_text_states(text, values):
    axis = read_axis(text)
    assert axis.grid() == values
    assert axis.field == text.partition("=")[0].replace("-", "_")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("optimizer.lr", "expected FIELD=LOW:HIGH:N.*such as optimizer.lr=1e-4"),
        ("optimizer.lr=", "expected FIELD="),
        ("=1,2", "expected FIELD="),
        ("optimizer.lr=1e-4:", "expected FIELD="),
        ("optimizer.lr=1e-4:x:log:3", "expected FIELD="),
        ("optimizer.lr=1e-4:nan:3", "expected FIELD="),
        ("optimizer.lr=1e-4:1e-2:lin:3", "expected FIELD="),
        ("optimizer.lr=1e-4:1e-2:3:log", "expected FIELD="),
        ("optimizer.lr=1e-2:1e-4:log:3", "low end first, got 1e-2 and 1e-4"),
        ("optimizer.lr=1e-2:1e-2:3", "low end first"),
        ("optimizer.lr=0:1e-2:log:3", "begins above 0, got 0"),
        ("optimizer.lr=1e-4:1e-2:log:1", f"expected 2 to {MOST} values, got 1"),
        ("optimizer.lr=1e-4:1e-2:log:9999", f"expected 2 to {MOST} values"),
        ("model.dim=96,,128", "a value between two commas is missing"),
        ("model.dim=96,96", "a value is given twice"),
    ],
)
def test_axis_that_states_no_values_is_refused(text, fault):
    with pytest.raises(ConfigError, match=rf"--vary .*{fault}"):
        read_axis(text)


def test_sweep_without_an_axis_or_with_one_field_twice_is_refused():
    with pytest.raises(ConfigError, match=r"at least one --vary, such as"):
        read_axes([])
    with pytest.raises(ConfigError, match=r"--vary model.dim: given twice; put all its values into one"):
        read_axes(["model.dim=96", "model.dim=128"])


def test_grid_is_every_combination_the_last_field_fastest():
    axes = read_axes(["a=1,2", "b=x,y"])
    assert [change_of(point) for point in grid(axes)] == ["a=1; b=x", "a=1; b=y", "a=2; b=x", "a=2; b=y"]


def test_grid_of_too_many_points_or_of_a_range_without_a_number_is_refused():
    with pytest.raises(ConfigError, match=r"20 x 20 are 400 points.*--random N"):
        grid(read_axes(["a=0:1.0:20", "b=0:1.0:20"]))
    with pytest.raises(ConfigError, match=r"expected how many values, as in a=0.1:1:log:5; or draw"):
        grid(read_axes(["a=0.1:1:log"]))


@given(seed=st.integers(0, 99), low=st.floats(1e-6, 1e3), ratio=st.floats(1.5, 1e6))
def test_draws_are_in_their_range_different_and_a_function_of_the_seed(seed, low, ratio):
    axes = [Axis(field="a", low=low, high=low * ratio, log=True), Axis(field="b", values=("x", "y"))]
    points = draws(axes, 8, seed)
    assert points == draws(axes, 8, seed) and len({tuple(point.values()) for point in points}) == 8
    for point in points:
        assert low * 0.999 <= float(point["a"]) <= low * ratio * 1.001 and point["b"] in "xy"


def test_draws_of_a_logarithmic_range_are_even_by_ratios():
    axis = Axis(field="a", low=1e-4, high=1.0, log=True)
    shares = [math.log10(float(point["a"])) / 4 + 1 for point in draws([axis], 200, seed=3)]
    assert abs(sum(shares) / 200 - 0.5) < 0.08 and 80 < sum(share < 0.5 for share in shares) < 120


def test_draws_end_where_there_are_no_more_points():
    assert len(draws(read_axes(["a=1,2", "b=x,y"]), 9, seed=1)) == 4


@pytest.mark.parametrize(
    ("text", "high", "wider"),
    [
        ("a=1e-3:1e-1:log:3", True, "a=0.001,0.01,0.1,1"),
        ("a=1e-3:1e-1:log:3", False, "a=0.0001,0.001,0.01,0.1"),
        ("a=0.1:0.3:3", True, "a=0.1,0.2,0.3,0.45"),
        ("a=1e-3,2e-3", False, "a=0.0005,1e-3,2e-3"),
        ("a=0,0.5", True, "a=0,0.5,1"),
        ("model.dim=96,128", True, "model.dim=96,128,160"),
        ("model.dim=96,128", False, "model.dim=64,96,128"),
        ("model.layers=1,2", False, ""),
    ],
)
def test_axis_that_goes_further_at_one_end_keeps_the_values_that_were_trained(text, high, wider):
    axis = read_axis(text)
    assert widened(axis, axis.grid(), high) == wider
    assert not wider or set(axis.grid()) < set(read_axis(wider).grid())


@pytest.mark.parametrize(
    ("text", "high", "wider"),
    [
        ("a=1e-3:1e-1:log", True, "a=0.001:1:log"),
        ("a=1e-3:1e-1:log", False, "a=0.0001:0.1:log"),
        ("a=0.1:0.3", True, "a=0.1:0.4"),
        ("a=10:20", False, "a=5:20"),
    ],
)
def test_range_that_is_drawn_from_becomes_wider(text, high, wider):
    axis = read_axis(text)
    assert widened(axis, [], high, drawn=True) == wider
