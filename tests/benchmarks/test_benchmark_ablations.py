"""The table of what each part of a recipe is worth: differences seed by seed, from runs that are in the folder."""

import json

import pytest
from helpers import ROOT

from nanotx.errors import ConfigError, RunError


@pytest.fixture
def ablations(command):
    """The program, called with words; it times nothing."""
    return lambda *words: command("ablations", "--rounds", "0", "--threads", "1", *words)


def complete(folder, losses, steps=400, done=True):
    """Write the summaries of complete runs, by arm and seed."""
    for (arm, seed), loss in losses.items():
        run = folder / f"{arm}-{seed}"
        run.mkdir()
        summary = {"complete": done, "steps": steps, "val_loss": loss}
        (run / "summary.json").write_text(json.dumps(summary), encoding="utf-8")


LOSSES = {("recipe", 1): 1.50, ("recipe", 2): 1.60, ("one_head", 1): 1.51, ("one_head", 2): 1.63}


def test_difference_is_the_mean_over_pairs_of_one_seed_with_its_interval(ablations, tmp_path, capsys):
    complete(tmp_path, LOSSES)
    out = tmp_path / "x.json"
    assert ablations("--arms", "one_head", "--seeds", "1,2", "--steps", 400, "--runs", tmp_path, "--json", out) == 0
    base, one_head = json.loads(out.read_text(encoding="utf-8"))["rows"]
    assert (base["name"], base["val_loss"], base["interval"]) == ("recipe", pytest.approx(1.55), None)
    assert one_head["flags"] == "--attention.heads 1" and one_head["losses"] == [1.51, 1.63]
    assert one_head["difference"] == pytest.approx(0.02)  # of +0.01 and +0.03
    assert one_head["interval"] == pytest.approx(12.7062 * 0.01, rel=1e-4)  # the quantile of one degree of freedom
    assert "+0.0200 ± 0.1271" in capsys.readouterr().out


@pytest.mark.parametrize(("fields", "wanted"), [({"steps": 200}, 400), ({"done": False}, 400)])
def test_run_of_another_length_and_incomplete_run_are_refused(ablations, tmp_path, fields, wanted):
    complete(tmp_path, LOSSES, **fields)
    with pytest.raises(RunError, match=rf"recipe-1: expected a complete run of {wanted} steps; remove it"):
        ablations("--arms", "one_head", "--seeds", "1,2", "--steps", wanted, "--runs", tmp_path)


def test_every_arm_is_another_recipe(tools):
    from ablations import ARMS, Flags, arm_recipe

    recipes = [arm_recipe(Flags(steps=7), arm) for arm in ARMS]
    assert all(recipe.train.steps == 7 for recipe in recipes)
    assert all(recipe != other for index, recipe in enumerate(recipes) for other in recipes[:index])


def test_unknown_arms_and_seeds_that_are_no_numbers_are_refused(ablations):
    with pytest.raises(ConfigError, match=r"--arms one_haed: unknown\. Did you mean 'one_head'"):
        ablations("--arms", "one_haed")
    with pytest.raises(ConfigError, match=r"--seeds: expected whole numbers such as 1337,1338, got '1,b'"):
        ablations("--seeds", "1,b")


def test_page_shows_the_rows_of_the_results():
    rows = json.loads((ROOT / "benchmarks/results/ablations-cpu.json").read_text(encoding="utf-8"))["rows"]
    page = (ROOT / "docs/what_each_part_is_worth.md").read_text(encoding="utf-8")
    assert len(rows) >= 9
    for row in rows:
        cells = [f"{row['val_loss']:.4f}", "", f"{row['step_ratio']:.2f}"]
        if row["name"] != "recipe":
            cells[1] = f"{row['difference']:+.4f} ± {row['interval']:.4f}"
            assert f"| `{row['flags']}` |" in page
        assert f"| {' | '.join(cells)} |".replace("|  |", "| |") in page
