"""`nanotx scaling`: sizes of a recipe, trained, fitted, drawn; continued after a kill; and what it refuses."""

import json
import re

import pytest
from helpers import text

from nanotx.cli.entry import exit_code
from nanotx.cli.main import run

SMALL = [
    "--model.dim", "16", "--model.context", "8", "--model.layers", "2", "--attention.heads", "2",
    "--train.steps", "12", "--train.batch-size", "2", "--train.eval-tokens", "64", "--schedule.warmup", "2",
]  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scaling")
    text(folder / "text.txt")
    return folder


def scaling(home, *words):
    """The exit code of the command."""
    corpus = ["--corpus", "file", "--corpus.path", str(home / "text.txt")]
    flags = [*SMALL, *corpus, "--sizes", "2", "--smallest-width", "0.5", "--processes", "1", "--examples", "0"]
    return exit_code(lambda: run(["scaling", "macbook", *flags, *words]))


@pytest.fixture(scope="module")
def trained(home):
    """The files of a scaling experiment of two seeds."""
    words = ["--seeds", "2", "--change", "ffn.activation=relu", "--out", str(home / "out")]
    assert scaling(home, *words, "--json", str(home / "first.json")) == 0
    return words


def test_sizes_are_fitted_and_drawn(home, trained, capsys):
    assert scaling(home, *trained, "--plot", str(home / "plot.svg"), "--json", str(home / "second.json")) == 0
    printed = capsys.readouterr()
    assert "0 of 4 runs" not in printed.err  # nothing is trained twice
    assert [line for line in printed.out.splitlines() if len(line) > 80] == []
    for words in ("macbook at 2 sizes, 2 seeds each", "8x1", "16x2", "baseline: bits per byte =", "Two sizes are"):
        assert words in printed.out
    assert "The shortest training has 2 steps" in printed.out
    first, second = (json.loads((home / name).read_text(encoding="utf-8")) for name in ("first.json", "second.json"))
    assert first == second
    assert [size["dim"] for size in first["sizes"]] == [8, 16]
    assert [arm["name"] for arm in first["arms"]] == ["baseline", "ffn.activation=relu"]
    assert "<svg" in (home / "plot.svg").read_text(encoding="utf-8")


def test_file_of_a_run_is_not_overwritten(home, trained, capsys):
    run = home / "out/16x2/baseline/seed-1337"
    assert scaling(home, "--out", str(home / "refused"), "--json", str(run / "summary.json")) == 2
    assert "a file of the run in" in capsys.readouterr().err
    assert not (home / "refused").exists()


def test_weights_of_one_size_are_refused(home, trained, capsys):
    run = home / "out/16x2/baseline/seed-1337"
    assert scaling(home, "--out", str(home / "refused"), "--init", str(run)) == 2
    assert f"--init {run}: its weights are of one size" in capsys.readouterr().err
    assert not (home / "refused").exists()


def test_recipe_alone_is_fitted_without_a_comparison(home, capsys):
    assert scaling(home, "--seeds", "1", "--out", str(home / "alone")) == 0
    printed = capsys.readouterr().out
    assert "weights" in printed
    assert "difference" not in printed
    assert "interval" not in printed  # of one seed there is none


def test_run_that_diverged_leaves_its_arm_without_a_law(home, capsys):
    words = ["--seeds", "1", "--change", "optimizer.lr=1e6", "--out", str(home / "diverged")]
    assert scaling(home, *words, "--plot", str(home / "diverged.svg")) == 0
    printed = capsys.readouterr().out
    assert "optimizer.lr=1e6: a run diverged, so nothing is fitted." in printed
    assert "baseline: bits per byte =" in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--change", "model.dim=8"], "the sizes set model.dim"),
        (["--change", "ffn.activation=gelu"], "equals the recipe at 8x1"),
        (["--change", "attention.heads=3"], "at 8x1: .*heads=3"),
        (["--largest-width", "0.25"], "smallest-width: expected less than --largest-width 0.25, got 0.5"),
        (["--plot", "plot.jpg"], "ends in .svg"),
        (["--seeds", "0"], "seeds"),
        (["--json", "nowhere/out.json"], "--json nowhere/out.json: there is no folder .*nowhere; make it"),
        (["--plot", "nowhere/out.svg"], "--plot nowhere/out.svg: there is no folder"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_trained(home, words, message, capsys):
    assert scaling(home, "--out", str(home / "refused"), *words) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (home / "refused").exists()
