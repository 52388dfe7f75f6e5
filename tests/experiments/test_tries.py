"""Tries: equally many for every arm, on other seeds, chosen such that equal arms are called different in 5% at most."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from test_experiment import BASE, design, known_peak
from test_statistics import EXPERIMENTS, HIGH, LOW, OWN, alarms, decisions

from nanotx.errors import ConfigError
from nanotx.experiments import experiment as experiment_module
from nanotx.experiments import report, runner
from nanotx.experiments.experiment import Experiment
from nanotx.experiments.plan import make_arms
from nanotx.experiments.tries import SEEDS, Tried, choose, read_tries, tries_of
from nanotx.nn.attention.sdpa import Sdpa
from nanotx.nn.block.prenorm import PreNorm

LR = (Tried(field="optimizer.lr", count=3),)
__all__ = ["known_peak"]  # a fixture


# The choice, simulated: arms whose losses respond to a field with four values alike, or not at all.

MULTIPLES = [(1.0,), (2.0,), (0.5,), (4.0,)]


def response(step: float) -> np.ndarray:
    """Return the mean loss at each multiple; the lowest is near 2, and 1 and 4 are nearly as low."""
    return step * (np.log2([by for (by,) in MULTIPLES]) - 0.8) ** 2


def tried(step: float, arms: int, seed: int) -> np.ndarray:
    """Return the losses of the tries of experiments of equal arms."""
    noise = np.random.default_rng(seed).normal(0, OWN, (EXPERIMENTS, arms, len(MULTIPLES), SEEDS))
    return noise + response(step)[:, None]


def false_alarms(picks: np.ndarray, step: float, seeds: int) -> int:
    """Return in how many experiments of equal arms one is called different, given what each arm chose."""
    shape = (*picks.shape, seeds)
    values = np.random.default_rng(77).normal(0, OWN, shape) + response(step)[picks][..., None]
    return alarms(decisions(values[:, 0], values[:, 1:]))


def picked(step: float, arms: int = 2, seed: int = 1) -> np.ndarray:
    names = [str(arm) for arm in range(arms)]
    picks = []
    for losses in tried(step, arms, seed).tolist():
        chosen = choose(
            {name: dict(zip(MULTIPLES, some, strict=True)) for name, some in zip(names, losses, strict=True)}
        )
        picks.append([MULTIPLES.index(chosen[name][0]) for name in names])
    return np.array(picks)


@pytest.mark.parametrize("step", [0.0, OWN, 4 * OWN])
def test_equal_arms_that_choose_among_tries_are_called_different_as_often_as_alpha_says(step):
    picks = picked(step)
    assert LOW <= false_alarms(picks, step, seeds=5) <= HIGH
    assert LOW <= false_alarms(picks, step, seeds=20) <= HIGH


def test_each_arm_choosing_its_own_lowest_is_caught_as_false_alarms():
    own = tried(OWN, 2, seed=1).mean(axis=3).argmin(axis=2)
    assert false_alarms(own, OWN, seeds=20) > 2 * HIGH


def test_one_arm_tuned_more_is_caught_as_false_alarms():
    picks = picked(4 * OWN)
    picks[:, 0] = 0  # the baseline has no tries
    assert false_alarms(picks, 4 * OWN, seeds=5) > 5 * HIGH


def test_arm_that_needs_another_value_gets_it():
    names = {"baseline": response(4 * OWN), "arm": response(4 * OWN)[[3, 2, 1, 0]]}
    noise = np.random.default_rng(3).normal(0, OWN, (200, 2, len(MULTIPLES), SEEDS))
    departed = 0
    for of in noise:
        losses = {
            name: dict(zip(MULTIPLES, (mean[:, None] + own).tolist(), strict=True))
            for (name, mean), own in zip(names.items(), of, strict=True)
        }
        chosen = choose(losses)
        departed += chosen["baseline"][0] != chosen["arm"][0]
    assert departed > 180


# The choice, by hand.


def losses(**arms: list[list[float | None]]):
    return {name: dict(zip(MULTIPLES, some, strict=False)) for name, some in arms.items()}


def test_multiple_that_is_lowest_over_all_arms_is_chosen_by_all():
    noisy = losses(baseline=[[1.0, 1.2, 1.1], [1.01, 1.0, 1.2]], arm=[[1.3, 1.3, 1.3], [1.1, 1.1, 1.1]])
    assert choose(noisy) == {"baseline": ((2.0,), False), "arm": ((2.0,), False)}


def test_arm_departs_from_it_by_a_clear_difference_alone():
    clear = losses(baseline=[[1.0, 1.01, 1.02], [1.1, 1.12, 1.13]], arm=[[1.6, 1.7, 1.7], [1.1, 1.1, 1.1]])
    assert choose(clear) == {"baseline": ((1.0,), True), "arm": ((2.0,), False)}


@pytest.mark.parametrize("lost", [None, math.nan, math.inf])
def test_multiple_at_which_an_arm_diverged_is_not_chosen_for_it(lost):
    some = losses(baseline=[[1.0, 1.1, 1.0], [0.5, 0.6, 0.5]], arm=[[1.0, 1.1, 1.0], [0.4, lost, 0.4]])
    assert choose(some) == {"baseline": ((2.0,), True), "arm": ((1.0,), False)}


def test_arm_whose_tries_all_diverged_does_not_decide_for_the_others():
    some = losses(baseline=[[1.0, 1.1, 1.0], [0.5, 0.6, 0.5]], arm=[[None] * 3, [None] * 3])
    assert choose(some) == {"baseline": ((2.0,), False), "arm": ((2.0,), False)}


# What is tried.


def test_more_tries_contain_those_of_fewer_and_the_arms_own_value():
    assert Tried(field="a", count=5).multiples == [1, 2, 0.5, 4, 0.25]
    assert [Tried(field="a", count=count).wider(high=True) for count in (2, 3, 4, 5)] == [4, 4, 6, 6]
    assert [Tried(field="a", count=count).wider(high=False) for count in (2, 3, 4, 5)] == [3, 5, 5, 7]
    for count in (2, 3, 4, 5):
        some = Tried(field="a", count=count)
        assert max(Tried(field="a", count=some.wider(high=True)).multiples) > max(some.multiples)
        assert min(Tried(field="a", count=some.wider(high=False)).multiples) < min(some.multiples)


def test_every_arm_is_tried_at_the_same_multiples_of_its_own_value():
    arms = make_arms(BASE, ["optimizer.lr=0.3", "ffn=relu2"])
    values = [[arm.recipe.optimizer.lr for arm in tries_of(arm, LR).values()] for arm in arms]
    assert values == [[0.01, 0.02, 0.005], [0.3, 0.6, 0.15], [0.01, 0.02, 0.005]]
    both = tries_of(arms[0], read_tries(["optimizer.lr=3", "model.dim = 2"]))
    assert len(both) == 6 and {arm.recipe.model.dim for arm in both.values()} == {16, 32}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optimizer.lr", "expected FIELD=N with N of at least 2, such as optimizer.lr=4"),
        ("optimizer.lr=1", "with N of at least 2"),
        ("optimizer.lr=-3", "expected FIELD=N"),
        ("optimizer.lr=0.1,0.2", "expected FIELD=N"),
        ("optimizer.lr=65", "65 tries of each arm; expected at most 64"),
        ("optimizer.lrr=3", "baseline: has no such field; name one that every arm has"),
        ("ffn=3", "baseline: has no such field"),
        ("model.dropout=3", "is 0.0 there; tries are multiples"),
        ("optimizer.betas=3", "is \\(0.9, .* there; tries are multiples of a number other than 0"),
        ("attention.dropout=4", "baseline cannot have attention.dropout=1.2: .*dropout"),
        ("model.layers=3", "baseline is tried twice|tried twice, after rounding"),
        ("schedule.final=9", "no such field|cannot have"),
    ],
)
def test_what_cannot_be_tried_is_refused_by_name(text, message):
    (arm,) = make_arms(
        replace(BASE, model=replace(BASE.model, block=PreNorm(attention=Sdpa(heads=2, dropout=0.3)))), []
    )
    with pytest.raises(ConfigError, match=f"--tries.*({message})"):
        tries_of(arm, read_tries([text]))


# Whole experiments.


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tries") / "whole"


@pytest.fixture(scope="module")
def outcome(folder):
    return Experiment(design("ffn=relu2", tries=LR), folder).run()


def test_page_and_record_say_what_each_arm_chose_and_where_it_is_at_an_edge(folder, outcome):
    page = report.page(outcome).replace("\n  ", " ")
    assert "Tries of optimizer.lr, on seeds 1005 to 1007:" in page
    assert max(map(len, report.page(outcome).splitlines())) <= 80
    record = json.loads((folder / "experiment.json").read_text(encoding="utf-8"))
    for name, choice in outcome.choices.items():
        assert record["choices"][name]["values"] == choice.values and len(choice.losses) == 3
        (end,) = [end for _, end in report.edges_of(LR, choice)] or [""]
        assert (end == "high") == (choice.values == {"optimizer.lr": "0.02"})
        assert not end or f"--tries optimizer.lr={LR[0].wider(end == 'high')} goes further" in page
    plain = json.loads(json.dumps(report.to_json(outcome), allow_nan=False))
    assert plain["tries"] == {"optimizer.lr": [1, 2, 0.5]} and plain["arms"][1]["choice"]["values"] == choice.values


def test_verdict_is_of_the_chosen_values_on_seeds_of_its_own(folder, outcome):
    runs = {tuple(path.parent.relative_to(folder).parts) for path in folder.rglob("summary.json")}
    tried_seeds = {run[-1] for run in runs if run[0] == "tries"}
    assert tried_seeds == {"seed-1005", "seed-1006", "seed-1007"} and len(runs) == 2 * 3 * 3 + 2 * 3
    assert {run[-1] for run in runs if run[0] != "tries"} == {"seed-5", "seed-6", "seed-7"}
    for arm in outcome.design.arms:
        assert f"{arm.recipe.optimizer.lr:.4g}" == outcome.choices[arm.name].values["optimizer.lr"]


def test_same_tries_again_train_nothing_and_say_the_same(folder, outcome, monkeypatch):
    monkeypatch.setattr(experiment_module, "run_jobs", lambda *_: pytest.fail("trained again"))
    assert report.page(Experiment(design("ffn=relu2", tries=LR), folder).run()) == report.page(outcome)


@pytest.mark.slow
def test_tries_stopped_at_any_run_end_with_the_same_page(outcome, tmp_path, monkeypatch):
    train, calls = runner.train_job, []

    def stopped(job, shared):
        calls.append(job)
        return runner.Result(arm=job.arm, seed=job.seed, stopped=15) if len(calls) in (3, 20) else train(job, shared)

    monkeypatch.setattr(runner, "train_job", stopped)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            Experiment(design("ffn=relu2", tries=LR), tmp_path / "x").run()
    assert report.page(Experiment(design("ffn=relu2", tries=LR), tmp_path / "x").run()) == report.page(outcome)
    assert len(calls) == 24 + 2


def test_folder_of_a_comparison_without_tries_is_refused(folder, outcome):
    with pytest.raises(ConfigError, match=r"differs in tries \(\['optimizer.lr'\], and now \[\]\)"):
        Experiment(design("ffn=relu2"), folder)


def test_more_tries_train_the_new_ones_alone_and_a_new_choice_is_noted(folder, outcome, monkeypatch):
    more, asked = (Tried(field="optimizer.lr", count=4),), []
    planted = {"0.01": 3.0, "0.02": 2.0, "0.005": 3.5, "0.04": 1.0}
    train = runner.train_job

    def recorded(job, shared):
        asked.append((job.arm, f"{job.recipe.optimizer.lr:g}"))
        result = train(job, shared)
        return replace(result, figures={**result.figures, "bits_per_byte": planted[f"{job.recipe.optimizer.lr:g}"]})

    monkeypatch.setattr(runner, "train_job", recorded)
    again = Experiment(design("ffn=relu2", tries=more), folder).run()
    assert {lr for _, lr in asked} == {"0.04"} and len(asked) == 2 * 3 + 2 * 3
    assert again.choices["baseline"].values == {"optimizer.lr": "0.04"}
    assert "There was a verdict before tries were added" in " ".join(again.notes)
