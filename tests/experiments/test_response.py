"""The response of a sweep: means, paired intervals around them, and their picture in text and as a file."""

import math
import statistics

import pytest

from nanotx.cli.sweep_plot import draw, places_of
from nanotx.errors import RunError
from nanotx.experiments.response import WIDTH, Response, lowest, picture, respond
from nanotx.experiments.vary import read_axes

RECIPE = [2.50, 2.60, 2.70]
POINT = {"optimizer.lr": "0.01"}


def test_interval_is_that_of_the_paired_difference_around_the_mean():
    losses = [2.41, 2.50, 2.62]
    response = respond(POINT, losses, RECIPE)
    differences = [here - there for here, there in zip(losses, RECIPE, strict=True)]
    half = 4.302653 * statistics.stdev(differences) / math.sqrt(3)  # Student's t of two degrees of freedom
    assert response.mean == pytest.approx(2.51)
    assert response.interval == pytest.approx((2.51 - half, 2.51 + half), abs=1e-6)


def test_interval_does_not_grow_by_what_a_seed_does_to_both():
    wide = [loss + 5 * seed for seed, loss in enumerate(RECIPE)]
    response = respond(POINT, [loss - 0.1 for loss in wide], wide)
    assert response.interval == pytest.approx((response.mean, response.mean))


@pytest.mark.parametrize("losses", [[2.4, None, 2.5], [2.4, math.inf, 2.5], [], [None]])
def test_point_of_which_a_run_diverged_has_no_mean(losses):
    response = respond(POINT, losses, RECIPE)
    assert response.mean is None and response.interval is None
    assert lowest([response]) is None
    assert "diverged" in picture([response], None, "nats")


def test_one_seed_and_the_recipe_itself_have_no_interval():
    assert respond(POINT, [2.4], [2.5]).interval is None
    assert respond(POINT, RECIPE, RECIPE, is_recipe=True).interval is None


def three():
    """A point below the recipe, the recipe, and one above; a fourth diverged."""
    point = [{"optimizer.lr": value, "ffn": "relu2"} for value in ("0.001", "0.01", "0.1", "1")]
    return [
        respond(point[0], [2.30, 2.41, 2.50], RECIPE, "better"),
        respond(point[1], RECIPE, RECIPE, is_recipe=True),
        respond(point[2], [2.80, 2.91, 3.00], RECIPE, "worse"),
        respond(point[3], [None, 9.0, 9.0], RECIPE, "diverged"),
    ]


def test_picture_draws_means_intervals_and_the_recipe_on_one_scale():
    head, *lines = picture(three(), 2.6, "bits per byte").splitlines()
    assert head.split()[:3] == ["optimizer.lr,", "ffn", "bits/byte"]
    start = lines[0].index("2.4033") + 8
    drawn = [line[start : start + WIDTH] for line in lines]
    means = [row.find("o") for row in drawn]
    assert means[0] < means[1] < means[2] and means[3] == -1
    assert all(
        row.count("|") == 2 and row.index("|") < row.index("o") < row.rindex("|") for row in (drawn[0], drawn[2])
    )
    assert drawn[3].index(":") == means[1]  # the recipe's mean
    assert [line[start + WIDTH :].strip() for line in lines] == ["better, lowest", "the recipe", "worse", "diverged"]
    assert "diverged" in lines[3][:start]


def test_picture_of_equal_losses_has_a_scale():
    assert "o" in picture([Response(point=POINT, mean=2.5)], 2.5, "nats")


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_plot_has_a_panel_for_each_field(tmp_path, suffix):
    axes = read_axes(["optimizer.lr=1e-3:1:log:4", "ffn=relu2"])
    draw(three(), axes, 2.6, "bits per byte", tmp_path / f"plot{suffix}")
    data = (tmp_path / f"plot{suffix}").read_bytes()
    assert data.startswith(b"\x89PNG") or all(word in data for word in (b"<svg", b"optimizer.lr", b"relu2", b"0.001"))


def test_plot_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"--plot .*cannot be written"):
        draw(three(), read_axes(["optimizer.lr=1e-3:1:log:4", "ffn=relu2"]), None, "nats", tmp_path / "no/plot.png")


def test_values_that_are_not_numbers_are_side_by_side():
    assert places_of(["96", "128"]) == ([96.0, 128.0], [])
    assert places_of(["mlp", "relu2", "mlp"]) == ([0.0, 1.0, 0.0], ["mlp", "relu2"])
