"""`nanotx tune` chooses on some seeds and judges on others, and writes only what is better by that verdict."""

import json
import math
import random
from typing import ClassVar

import pytest
from helpers import text, tiny

from nanotx.cli.commands import tune
from nanotx.cli.main import run
from nanotx.config.toml import read_config
from nanotx.errors import ConfigError
from nanotx.experiments.experiment import Outcome
from nanotx.experiments.plan import Facts
from nanotx.experiments.statistics import judge
from nanotx.recipe import Recipe

FACTS = Facts(
    tokens_per_step=96, bytes_per_token=1.0, flops_per_token=1e4, seconds_per_step=0.5, parameters=9000
)  # half a second a step


class Planted:
    """An experiment whose losses follow from learning rate and seed; the lowest is at `best`."""

    best = 0.02
    seen: ClassVar[list[tuple[int, ...]]] = []  # seeds of each experiment
    steps: ClassVar[list[int]] = []  # of a run of each
    diverges = False

    def __init__(self, design, folder, say):
        self.design = design

    def loss(self, arm, seed):
        lr = arm.recipe.optimizer.lr
        if self.diverges and arm.name != "baseline":
            return None
        noise = random.Random(f"{arm.name} {seed}").gauss(0, 0.002) + random.Random(seed).gauss(0, 0.05)
        return 2.0 + 0.1 * math.log(lr / self.best) ** 2 + noise

    def run(self, processes):
        design = self.design
        self.seen.append(design.seeds)
        self.steps.append(design.arms[1].recipe.train.steps)
        losses = {arm.name: [self.loss(arm, seed) for seed in design.seeds] for arm in design.arms}
        verdicts = judge(losses["baseline"], {name: some for name, some in losses.items() if name != "baseline"})
        sizes = [6] * len(design.arms)
        return Outcome(design=design, facts=[FACTS] * len(sizes), steps=sizes, losses=losses, nats=losses,
                       verdicts=verdicts, unit="bits per byte", diverged={}, to_baseline={})  # fmt: skip


@pytest.fixture
def planted(monkeypatch, tmp_path):
    """A function that tunes by planted losses, in a folder of its own: the exit code."""
    monkeypatch.chdir(tmp_path)
    text(tmp_path / "text.txt")
    monkeypatch.setattr(tune, "Experiment", Planted)
    monkeypatch.setattr(tune, "measure", lambda arms, corpus, rounds: [FACTS])
    monkeypatch.setattr(Planted, "seen", [])
    monkeypatch.setattr(Planted, "steps", [])
    corpus = ["--corpus", "file", "--corpus.path", "text.txt"]
    return lambda *words: run(["tune", "macbook", *tiny(threads=None), *corpus, "--processes", "1", *words])


def test_tuned_recipe_is_near_the_planted_optimum_and_judged_on_seeds_of_its_own(planted, tmp_path, capsys):
    assert planted("--budget", "5m") == 0
    recipe, base = read_config(Recipe, tmp_path / "macbook_tuned.toml"), Recipe().optimizer.lr
    assert abs(math.log(recipe.optimizer.lr / Planted.best)) < abs(math.log(base / Planted.best))
    first, second, verdict = Planted.seen
    assert set(first) <= set(second) and not set(second) & set(verdict)
    assert (len(first), len(second), len(verdict)) == (1, 3, 5) and recipe.seed == first[0]
    head = (tmp_path / "macbook_tuned.toml").read_text(encoding="utf-8").partition("\n\n")[0]
    assert "better, by" in head and "Both take 6 steps" in head and "--budget 5m" in head
    assert "nanotx train macbook_tuned.toml" in capsys.readouterr().out


def test_number_of_tries_follows_from_the_measured_step_and_is_recorded(planted, tmp_path):
    assert planted("--budget", "5m", "--out", "tune") == 0
    record = json.loads((tmp_path / "tune/tuning.json").read_text(encoding="utf-8"))
    assert record["run_seconds"] == tune.START + 6 * 0.5
    assert record["tries"] == 21  # 48 runs of 6 s; 22 are 51, and there is time for 50


def test_number_of_tries_may_be_given_and_then_no_clock_is_read(planted, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tune, "measure", lambda *args: pytest.fail("the clock was read"))
    assert planted("--tries", "9", "--out", "tune", "--json", "verdict.json") == 0
    record = json.loads((tmp_path / "tune/tuning.json").read_text(encoding="utf-8"))
    assert record["tries"] == 9 and record["run_seconds"] is None
    printed = capsys.readouterr()
    assert "9 tries and the recipe as it is, 28 runs\n" in printed.err
    verdict = json.loads((tmp_path / "verdict.json").read_text(encoding="utf-8"))
    assert verdict["arms"][1]["outcome"] == "better" and len(verdict["seeds"]) == 5
    (tmp_path / "macbook_tuned.toml").unlink()
    assert planted("--tries", "9", "--out", "tune") == 0
    with pytest.raises(ConfigError, match=r"differs in tries \(9, now 10\)"):
        planted("--tries", "10", "--out", "tune", "--write", "other.toml")


def test_tries_have_a_share_of_the_budget_and_the_verdict_has_all(planted, tmp_path):
    assert planted("--tries", "9", "--share", "0.5") == 0
    assert Planted.steps == [3, 3, 6]
    assert read_config(Recipe, tmp_path / "macbook_tuned.toml").train.steps == 6
    head = (tmp_path / "macbook_tuned.toml").read_text(encoding="utf-8").partition("\n\n")[0]
    assert "Both take 6 steps" in head and "0.5 of the budget each" in head


def test_recipe_that_is_best_already_has_no_sibling_written(planted, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Planted, "best", Recipe().optimizer.lr)
    assert planted("--budget", "5m") == 0
    assert not (tmp_path / "macbook_tuned.toml").exists()
    assert "none is known to be better than macbook; nothing is written" in capsys.readouterr().out


def test_tries_that_all_diverge_are_reported(planted, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Planted, "diverges", True)
    assert planted("--budget", "5m") == 0
    assert "All tries diverged; nothing is written" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ((), "--budget: expected a time such as 90s, 30m or 2h"),
        (("--budget", "30"), "--budget 30: expected a time such as"),
        (("--budget", "5m", "--tries", "9"), "tries: expected it or budget, got both"),
        (("--tries", "9", "--share", "0"), "share: expected a number of at least 0.01, got 0"),
        (("--tries", "2"), "tries: expected a number of at least 3, got 2"),
        (("--tries", "9", "--json", "none/x.json"), "--json none/x.json: there is no folder"),
        (("--budget", "0m"), "--budget 0m: expected a time such as"),
        (("--budget", "-5m"), "--budget -5m: expected a time|--budget: expected"),
        (("--budget", "1m"), r"--budget: a run takes some 6 s.* try --budget 2m"),
        (
            ("--budget", "5m", "--equal", "loss"),
            "--equal: expected one of steps, tokens, bytes, flops, seconds, got 'loss'",
        ),
        (("--budget", "5m", "--write", "tuned.json"), r"--write: expected a name that ends in .toml"),
        (("--budget", "5m", "--write", "text.toml"), r"--write text.toml: exists already"),
        (("--budget", "5m", "--vary", "attention.heads=3,5"), "--vary 'attention.heads=[35]': .*do not divide"),
        (("--budget", "5m", "--vary", "optimizer.lr=1:x"), "--vary optimizer.lr=1:x: expected"),
    ],
)
def test_what_cannot_be_tuned_is_refused(planted, tmp_path, words, fault):
    (tmp_path / "text.toml").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match=fault):
        planted(*words)
    assert not Planted.seen


@pytest.mark.slow
def test_tuning_of_a_tiny_recipe_continues_where_it_was(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text(tmp_path / "text.txt")
    corpus = ["--corpus", "file", "--corpus.path", "text.txt"]
    words = ["tune", "macbook", *tiny(threads=None), *corpus, "--processes", "1", "--budget", "65s"]
    assert run(words) == 0
    (tmp_path / "macbook_tuned.toml").unlink(missing_ok=True)
    monkeypatch.setattr(tune, "measure", lambda *args: pytest.fail("the clock was read again"))
    first = capsys.readouterr().out
    assert run(words) == 0
    assert capsys.readouterr().out == first
