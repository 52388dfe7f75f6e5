"""One number for the size of a recipe: what it sets, what wins over it, and that a run obeys it afterwards."""

import json
import tomllib
from pathlib import Path

import pytest
from helpers import text, tiny

from nanotx.cli.main import run as nanotx_command
from nanotx.config.schema import from_table
from nanotx.errors import ConfigError
from nanotx.experiments.dial import batch_growth
from nanotx.recipe import Recipe, Train


def printed(capsys, *words):
    assert nanotx_command(["train", *words, "--print-config"]) == 0
    return from_table(Recipe, tomllib.loads(capsys.readouterr().out))


def test_depth_of_the_recipe_is_the_recipe_itself(capsys):
    assert printed(capsys, "enwik8", "--depth", "12") == printed(capsys, "enwik8")


def test_depth_sets_width_heads_rate_batch_tokens_and_warm_up(capsys):
    whole, half = printed(capsys, "enwik8"), printed(capsys, "enwik8", "--depth", "6")
    assert (half.model.layers, half.model.dim, half.model.block.attention.heads) == (6, 256, 4)
    assert half.train.batch_size == whole.train.batch_size // 2  # work to the power 0.383, in powers of two
    assert half.optimizer.lr == pytest.approx(whole.optimizer.lr * 2 / 2**0.5, rel=1e-3)
    tokens = [recipe.train.steps * recipe.train.batch_size for recipe in (half, whole)]
    work = tokens[0] / tokens[1]
    assert 1 / 8 < work < 1 / 4  # blocks have an eighth of the weights, and the head half
    assert half.schedule.warmup == round(whole.schedule.warmup * half.train.steps / whole.train.steps)


def test_flag_after_the_depth_wins_and_one_before_it_is_refused(capsys):
    half = printed(capsys, "enwik8", "--depth", "6", "--train.steps", "50", "--tokenizer", "byte")
    assert half.train.steps == 50 and half.model.dim == 256
    budget = printed(capsys, "enwik8", "--depth=6", "--train.tokens", "1000000")
    assert budget.train.budget == ("tokens", 1_000_000)
    for early in (["--model.dim", "64"], ["--train.steps=50"], ["--attention.heads", "2"]):
        with pytest.raises(ConfigError, match=rf"{' '.join(early)}: comes before --depth 6, which sets .* it wins"):
            nanotx_command(["train", "enwik8", *early, "--depth", "6", "--print-config"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--depth", "0"], "--depth 0: expected a number of layers, at least 1"),
        (["--depth", "six"], r"--depth: expected a whole number .*'six'"),
        (["--depth", "4", "--depth", "5"], "--depth: given 2 times"),
        (["--model.share", "2", "--depth", "5"], "--depth 5: share: 2 does not divide layers=5"),
    ],
)
def test_depth_that_cannot_be_is_refused(words, message):
    with pytest.raises(ConfigError, match=message):
        nanotx_command(["train", "enwik8", *words, "--print-config"])


def test_budget_of_seconds_has_no_depth(tmp_path):
    (tmp_path / "timed.toml").write_text("[train]\nseconds = 60\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"--depth 2: train\.seconds: the dial turns tokens"):
        nanotx_command(["train", "enwik8", str(tmp_path / "timed.toml"), "--depth", "2", "--print-config"])


@pytest.mark.parametrize(
    ("work", "plan", "growth"),
    [
        (1.0, Train(), 1.0),
        (8.0, Train(), 2.0),
        (1 / 8, Train(batch_size=12), 0.5),
        (1 / 64, Train(batch_size=12, grad_accum_steps=6), 0.5),
        (1 / 64, Train(batch_size=12, micro_batch_size=12), 1.0),
        (1 / 4096, Train(batch_size=1), 1.0),
    ],
)
def test_batch_grows_in_powers_of_two_and_keeps_whole_micro_batches(work, plan, growth):
    assert batch_growth(plan, work) == growth


def test_run_at_a_depth_records_what_it_set_and_resumes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text(tmp_path / "a.txt")
    flags = tiny(train_steps=None, model_dim=None, model_layers=None, attention_heads=None, train_batch_size=None)
    words = ["train", "shakespeare_char", "--corpus", "a.txt", *flags, "--depth", "2", "--train.steps", "2"]
    assert nanotx_command([*words, "--run", "run"]) == 0
    lines = capsys.readouterr().out
    assert "depth 2: model.dim" in lines and "--train.steps 2 comes after it and wins" in lines
    recipe = from_table(Recipe, tomllib.loads(Path("run/recipe.toml").read_text(encoding="utf-8")))
    assert recipe.model.layers == 2
    start = json.loads(Path("run/metrics.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert start["recipe_differs"]["model.layers"] is not None
    assert nanotx_command(["resume", "run", "--train.steps", "3"]) == 0
    with pytest.raises(ConfigError, match="model"):
        nanotx_command(["resume", "run", "--depth", "3", "--train.steps", "4"])
    for command in (["verify", "run"], ["replay", "run", "--step", "2"]):
        assert nanotx_command(command) == 0
