"""`nanotx sweep` trains each point once, shows how the loss responds, and refuses what cannot be swept."""

import json
from dataclasses import replace

import pytest
from helpers import text, tiny

from nanotx.cli.commands import sweep as sweep_command
from nanotx.cli.main import run
from nanotx.errors import ConfigError, UnknownPart
from nanotx.experiments import experiment
from nanotx.experiments.response import Response
from nanotx.experiments.vary import grid, read_axes
from nanotx.optim.adamw import AdamW
from nanotx.recipe import Recipe

VARY = ("--vary", "optimizer.lr=1e-3,1e-2", "--vary", "attention.heads=2,3,4")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a text."""
    home = tmp_path_factory.mktemp("sweep")
    text(home / "text.txt")
    return home


def sweep(home, *words):
    corpus = ["--corpus", "file", "--corpus.path", str(home / "text.txt")]
    flags = tiny(train_steps=2, threads=None)
    return run(["sweep", "macbook", *flags, *corpus, "--processes", "1", *words])


@pytest.fixture(scope="module")
def swept(home):
    """The words of a sweep that was run, of four points and two seeds; one of the points is the recipe."""
    words = [*VARY, "--seeds", "2", "--optimizer.lr", "1e-3", "--out", str(home / "sweep")]
    assert sweep(home, *words, "--plot", str(home / "plot.svg"), "--json", str(home / "sweep.json")) == 0
    return words


def test_sweep_trains_every_point_that_can_be_built_and_the_recipe_once(home, swept):
    figures = json.loads((home / "sweep.json").read_text(encoding="utf-8"))
    points = [(row["point"]["optimizer.lr"], row["point"]["attention.heads"]) for row in figures["response"]]
    assert sorted(points) == [("1e-2", "2"), ("1e-2", "4"), ("1e-3", "2"), ("1e-3", "4")]
    assert [row["is_recipe"] for row in figures["response"]].count(True) == 1
    assert len(figures["arms"]) == 4 and all(len(arm["losses"]) == 2 for arm in figures["arms"])
    assert all(row["interval"] for row in figures["response"] if not row["is_recipe"])
    assert b"optimizer.lr" in (home / "plot.svg").read_bytes()


def test_same_command_trains_nothing_again_and_prints_the_same(home, swept, monkeypatch, capsys):
    monkeypatch.setattr(experiment, "run_jobs", lambda *args: pytest.fail("a run was trained again"))
    outputs = []
    for _ in range(2):
        assert sweep(home, *swept) == 0
        outputs.append(capsys.readouterr())
    assert outputs[0].out == outputs[1].out
    assert "left out" in outputs[0].err and "heads=3" in outputs[0].err
    assert "the recipe" in outputs[0].out and "lowest" in outputs[0].out


def test_mistyped_recipe_or_flag_names_the_command_that_was_typed():
    for command in ("sweep", "tune"):
        words = ["--budget", "5m"] if command == "tune" else []
        with pytest.raises(
            ConfigError, match=rf"^nanotx {command} macbok: no such.*'macbook'.*nanotx {command} --help"
        ):
            run([command, "macbok", *words])
        with pytest.raises(ConfigError, match=rf"^nanotx {command} macbook: --hld-out: no such.*'--held-out'"):
            run([command, "macbook", *words, "--hld-out", "0.2"])


def test_folder_that_is_a_file_is_refused(home):
    with pytest.raises(ConfigError, match=r"--out .*text.txt: not a folder; choose another"):
        sweep(home, *VARY, "--out", str(home / "text.txt"))


def test_more_values_of_the_same_fields_train_the_new_points_alone(home, swept, monkeypatch):
    asked = []

    def stopped(jobs, *others):
        asked.extend(job.arm for job in jobs)
        raise KeyboardInterrupt

    monkeypatch.setattr(experiment, "run_jobs", stopped)
    with pytest.raises(KeyboardInterrupt):
        sweep(home, *[word.replace("1e-3,1e-2", "1e-3,1e-2,3e-3") for word in swept])
    assert len(asked) == 4 and all("lr=3e-3" in arm for arm in asked)  # two points on two seeds


def test_sweep_prints_how_to_judge_the_lowest_on_other_seeds(home, swept, monkeypatch, capsys):
    assert sweep(home, *swept) == 0
    last = [line for line in capsys.readouterr().out.splitlines() if line.startswith("nanotx compare macbook")]
    assert len(last) == 1 and "--seed 7 --change" in last[0] and "--seed 5" not in last[0]


def edge(recipe, *losses, vary="optimizer.lr=1e-3,1e-2,1e-1", drawn=False):
    axes = read_axes([vary])
    points = zip(losses, grid(axes), strict=True)
    responses = [Response(point=point, mean=loss) for loss, point in points]
    words = ["macbook", "--vary", vary, "--seeds", "2"]
    return sweep_command.edges(replace(Recipe(), optimizer=AdamW(lr=0.02)), axes, responses, recipe, words, drawn)


def test_lowest_point_at_an_end_of_the_range_is_named_with_what_goes_further():
    lines = edge(2.5, 3.0, 2.0, 1.0).splitlines()
    assert lines == [
        "The lowest is at the high end of optimizer.lr, 1e-1: it may be lower beyond. To go further:",
        "nanotx sweep macbook --vary optimizer.lr=1e-3,1e-2,0.02,1e-1,0.5 --seeds 2",
    ]
    assert "the low end of optimizer.lr, 1e-3" in edge(2.5, 1.0, 2.0, 3.0)
    assert "--vary optimizer.lr=0.0001:0.1:log" in edge(
        2.5, 1.0, 2.0, 3.0, vary="optimizer.lr=1e-3:1e-1:log:3", drawn=True
    )


def test_lowest_point_inside_of_the_range_and_names_have_no_edge():
    assert edge(2.5, 3.0, 1.0, 2.0) == ""
    assert edge(0.5, 3.0, 2.0, 1.0) == ""  # the recipe as it is, between two points
    assert edge(2.5, None, None, None) == ""
    assert edge(2.5, 2.0, 1.0, vary="ffn=mlp,swiglu") == ""


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ((), "expected at least one --vary"),
        (("--vary", "optimizer.lrr=1,2"), "--vary 'optimizer.lrr=1': .*Did you mean '--optimizer.lr'"),
        (("--vary", "attention.heads=3,5"), "--vary 'attention.heads=3': .*heads=3"),
        (("--vary", "ffn=relu2,nope"), "--vary 'ffn=nope': .*no part named 'nope'"),
        (("--vary", "train.steps=5,6"), "--vary 'train.steps=5': budgets would differ"),
        (("--vary", "seed=1,2"), "--vary 'seed=1': seeds are the same"),
        (("--vary", "attention.heads=2"), "every point is the recipe as it is"),
        (("--vary", "optimizer.lr=1e-3:1e-2:log"), "expected how many values"),
        ((*VARY, "--seeds", "0"), "--seeds: expected a number of at least 1"),
        ((*VARY, "--random", "-1"), "--random: expected a number of at least 0"),
        ((*VARY, "--held-out", "2"), "--held-out: expected a number of at most 0.9"),
        ((*VARY, "--plot", "x.gif"), "--plot x.gif: expected a name that ends in"),
    ],
)
def test_what_cannot_be_swept_is_refused_before_anything_is_made(home, tmp_path, monkeypatch, words, fault):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ConfigError, UnknownPart), match=fault):
        sweep(home, *words)
    assert not [*tmp_path.iterdir()]
