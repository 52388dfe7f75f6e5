"""Tuning: as many tries as fit into the time, decided once; a file whose top says what is known of the recipe below."""

import tomllib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanotx.config.toml import read_config
from nanotx.errors import ConfigError, RunError
from nanotx.experiments.statistics import judge
from nanotx.experiments.tuning import (
    FEWEST,
    MOST,
    SEEDS,
    VERDICT_SEEDS,
    Evidence,
    Plan,
    plan_of,
    ranked,
    recipe_file,
    recorded_plan,
    shortened,
)
from nanotx.optim.adamw import AdamW
from nanotx.recipe import Recipe, Train


def test_plan_counts_the_runs_of_every_round_and_of_the_verdict():
    plan = Plan(tries=9, run_seconds=1.0)
    assert [plan.survivors(number) for number in range(len(SEEDS))] == [9, 3]
    assert plan.runs == (9 + 1) * 1 + (3 + 1) * 2 + 2 * VERDICT_SEEDS  # each with the recipe as it is


@given(seconds=st.floats(1, 1e6), run_seconds=st.floats(0.1, 1e3), processes=st.integers(1, 16))
def test_plan_has_the_most_tries_that_fit(seconds, run_seconds, processes):
    room = seconds * processes / run_seconds
    if room < Plan(tries=FEWEST, run_seconds=run_seconds).runs:
        with pytest.raises(ConfigError, match=r"--budget: a run takes some .* try --budget \d+m"):
            plan_of(seconds, run_seconds, processes)
        return
    plan = plan_of(seconds, run_seconds, processes)
    assert plan.runs <= room
    assert plan.tries == MOST or replace(plan, tries=plan.tries + 1).runs > room


def test_plan_is_made_once_and_then_obeyed(tmp_path):
    made = Plan(tries=7, run_seconds=2.5)
    assert recorded_plan(tmp_path / "tune", {"equal": "steps"}, lambda: made) == made
    never = Plan(tries=99, run_seconds=0.1)
    assert recorded_plan(tmp_path / "tune", {"equal": "steps"}, lambda: never) == made
    with pytest.raises(ConfigError, match=r"a tuning that differs in equal \('steps', now 'flops'\)"):
        recorded_plan(tmp_path / "tune", {"equal": "flops"}, lambda: never)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"asked": {}}', '{"asked": {}, "tries": "x", "run_seconds": 1}'])
def test_record_that_cannot_be_read_is_refused(tmp_path, text):
    (tmp_path / "tuning.json").write_text(text, encoding="utf-8")
    with pytest.raises(RunError, match=r"tuning.json: cannot be read: .*choose another --out"):
        recorded_plan(tmp_path, {}, lambda: Plan(tries=7, run_seconds=1.0))


def test_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"--out .*file: not a folder"):
        recorded_plan(tmp_path / "file", {}, lambda: Plan(tries=7, run_seconds=1.0))


def test_tries_are_ranked_by_their_mean_and_one_that_diverged_is_none():
    losses = {"a": [2.0, 2.2], "b": [1.0, None], "c": [2.0, 2.1], "d": [float("nan"), 1.0], "e": []}
    assert ranked(losses) == ["c", "a"]


def evidence(**others):
    recipe = Recipe(optimizer=AdamW(lr=0.004), seed=5)
    base, tuned = [2.70, 2.72, 2.71, 2.69, 2.73], [2.65, 2.66, 2.66, 2.63, 2.68]
    known = {
        "name": "macbook",
        "change": "optimizer.lr=0.004",
        "recipe": recipe,
        "tries": (9, 3),
        "share": 1.0,
        "drawn_from": ("optimizer.lr=0.000125:0.008:log",),
        "steps": (2000, 2000),
        "equal": "steps",
        "seeds": (1005, 1009),
        "held_out": 0.1,
        "losses": (2.71, 2.656),
        "unit": "bits per byte",
        "verdict": judge(base, {"tuned": tuned})["tuned"],
        "command": "nanotx tune macbook --budget 30m",
    }
    return Evidence(**{**known, **others})


def test_tuned_file_is_the_recipe_below_its_evidence(tmp_path):
    (tmp_path / "tuned.toml").write_text(recipe_file(evidence()), encoding="utf-8")
    assert read_config(Recipe, tmp_path / "tuned.toml") == evidence().recipe
    head = [line for line in recipe_file(evidence()).splitlines() if line.startswith("#")]
    text = "\n".join(head)
    assert head[0] == "# macbook, tuned: optimizer.lr=0.004."
    for known in ("seeds 1005 to 1009", "better, by 0.04", "macbook 2.7100, this 2.6560", "p <0.001", "last 10%",
                  "9 on 1 seed, 3 on 3 seeds", "optimizer.lr=0.000125:0.008:log", "nanotx tune macbook --budget 30m",
                  "2,000 steps"):  # fmt: skip
        assert known in text


def test_steps_of_an_equal_budget_that_are_not_equal_are_both_in_the_file():
    assert "Equal flops: macbook 2,000 steps, this 1,500." in recipe_file(evidence(equal="flops", steps=(2000, 1500)))


def test_share_of_the_budget_that_tries_had_is_in_the_file():
    assert "(9 on 1 seed, 3 on 3 seeds) of" in recipe_file(evidence())
    assert "(9 on 1 seed, 3 on 3 seeds, 0.25 of the budget each) of" in recipe_file(evidence(share=0.25))


def test_shortened_recipe_has_a_share_of_its_budget_and_nothing_else():
    recipe = Recipe(train=Train(steps=2001))
    assert shortened(recipe, 0.25) == replace(recipe, train=Train(steps=500))
    assert shortened(recipe, 1e-9).train.steps == 1
    assert shortened(Recipe(train=Train(flops=1e9)), 0.1).train.budget == ("flops", 1e8)


def test_short_tries_leave_time_for_more_of_them():
    assert Plan(tries=9).whole_runs(0.5) == 18 * 0.5 + 10
    assert plan_of(600.0, 10.0, 1, share=0.25).tries > plan_of(600.0, 10.0, 1).tries


def test_command_of_several_lines_stays_a_comment():
    text = recipe_file(evidence(command="nanotx tune x.toml --load 'a\nseed = 9'"))
    assert tomllib.loads(text)["seed"] == 5
