"""Each seed of a run changes what it names, and nothing else; a resumed and a replayed run keep all three."""

import json
import shutil

import numpy as np
import pytest
import torch
from helpers import text, tiny

from nanotx.cli.main import run
from nanotx.config.toml import read_config
from nanotx.data.batches import Windows
from nanotx.errors import ConfigError
from nanotx.hardware.device import Machine
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.dropout import Dropout
from nanotx.nn.transformer import Model
from nanotx.recipe import Recipe, Seeds
from nanotx.training.trainer import Trainer

MODEL = Model(dim=24, layers=2, context=8, dropout=0.3, block=PreNorm(dropout=0.2))
IDS = np.random.default_rng(0).integers(0, 11, size=300)


def randomness(**seeds):
    """What is random in a run: its weights at the start, the windows of a step, and the masks of its dropouts."""
    recipe = Recipe(model=MODEL, seed=5, **seeds)
    windows = Windows(ids=IDS, context=8, seed=recipe.seeds.data)
    machine = Machine(device=torch.device("cpu"), dtype=torch.float32, threads=1)
    trainer = Trainer(recipe, MODEL.build(11, recipe.seeds.weights), windows, machine)
    with trainer.row_randomness(range(4)):
        ones = torch.ones(4, 8, 24)
        masks = [dropout(ones) for dropout in trainer.dropouts.values() if isinstance(dropout, Dropout)]
        drawn = torch.rand(3)  # of a part that draws from PyTorch's own generator
    return {
        "weights": torch.cat([weight.flatten() for weight in trainer.weights().values()]),
        "data": windows.batch(3, 4)[0],
        "dropout": torch.cat([*(mask.flatten() for mask in masks), drawn]),
    }


@pytest.fixture(scope="module")
def plain():
    return randomness()


@pytest.mark.parametrize("name", Seeds._fields)
def test_seed_changes_what_it_names_and_nothing_else(name, plain):
    now = randomness(**{f"{name}_seed": 6})
    changed = {key for key, value in plain.items() if not torch.equal(value, now[key])}
    assert changed == {name}


def test_seed_changes_all_that_has_no_seed_of_its_own(plain):
    own = randomness(weights_seed=5, data_seed=5, dropout_seed=5)
    assert all(torch.equal(value, own[key]) for key, value in plain.items())
    assert Recipe(seed=9, data_seed=0).seeds == Seeds(weights=9, data=0, dropout=9)


@pytest.mark.parametrize("name", Seeds._fields)
def test_seed_below_zero_is_refused_by_its_name(name):
    with pytest.raises(ConfigError, match=f"{name}_seed: expected a number of at least 0.*got -1"):
        Recipe(**{f"{name}_seed": -1})


SEEDS = ["--weights-seed", "1", "--data-seed", "2", "--dropout-seed", "3", "--block.dropout", "0.2"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs of six steps: one with three seeds, one with a single seed."""
    home = tmp_path_factory.mktemp("seeds")
    corpus = ["--corpus", "file", "--corpus.path", str(text(home / "text.txt"))]
    assert run(["train", "macbook", "--run", str(home / "three"), *tiny(), *corpus, *SEEDS]) == 0
    assert run(["train", "macbook", "--run", str(home / "one"), *tiny(), *corpus, "--block.dropout", "0.2"]) == 0
    return home


def test_run_records_its_seeds_and_is_replayed_with_them(runs, capsys):
    recipe = read_config(Recipe, runs / "three" / "recipe.toml")
    assert recipe.seeds == Seeds(weights=1, data=2, dropout=3)
    figures = json.loads((runs / "three" / "summary.json").read_text(encoding="utf-8"))
    assert [figures[f"{name}_seed"] for name in Seeds._fields] == [1, 2, 3] and figures["seed"] == 5
    assert run(["replay", str(runs / "three"), "--step", "3"]) == 0


def test_run_without_seeds_of_its_own_has_a_recipe_without_them(runs):
    assert "_seed" not in (runs / "one" / "recipe.toml").read_text(encoding="utf-8")
    figures = json.loads((runs / "one" / "summary.json").read_text(encoding="utf-8"))
    assert {figures[f"{name}_seed"] for name in Seeds._fields} == {5}


def test_resume_keeps_the_seeds_and_refuses_another(runs, tmp_path, capsys):
    folder = shutil.copytree(runs / "three", tmp_path / "run")
    with pytest.raises(ConfigError, match="data_seed was 2, not 9"):
        run(["resume", str(folder), "--data-seed", "9"])
    assert run(["resume", str(folder), "--train.steps", "8", "--dropout-seed", "3"]) == 0
    assert read_config(Recipe, folder / "recipe.toml").seeds == Seeds(weights=1, data=2, dropout=3)
    assert run(["replay", str(folder), "--step", "8"]) == 0


def test_resume_takes_a_seed_by_its_own_name_for_the_same(runs, tmp_path, capsys):
    folder = shutil.copytree(runs / "one", tmp_path / "run")
    with pytest.raises(ConfigError, match="weights_seed was 5, not 6"):
        run(["resume", str(folder), "--weights-seed", "6"])
    assert run(["resume", str(folder), "--train.steps", "8", "--weights-seed", "5"]) == 0
    assert "weights_seed" not in capsys.readouterr().out  # it is no change


def test_diff_and_runs_show_the_seeds(runs, capsys):
    assert run(["diff", str(runs / "one"), str(runs / "three"), "--step", "1"]) == 1
    table = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["weights_seed", "5", "1"] in table and ["dropout_seed", "5", "3"] in table
    assert run(["runs", str(runs)]) == 0
    header, *rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    places = [header.index(name) for name in ("data_seed", "dropout_seed")]
    assert sorted([row[place] for place in places] for row in rows[:2]) == [["2", "3"], ["5", "5"]]
