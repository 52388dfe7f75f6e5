"""A race: told as it goes, written down as it ended, and a record only where three seeds agree."""

import json

import pytest
from helpers import finish, start, text, tiny

from nanotx.cli.commands.speedrun import first_seed, split_flags, summarize
from nanotx.cli.main import run as nanotx_command
from nanotx.errors import ConfigError, DataError
from nanotx.runs.speedrun import Timer, best, read_runs

MACHINE = {"cpu": "abacus", "cores": 2, "gpu": ""}
FIGURES = {
    "val_loss": 1.4, "best_val_loss": 1.4, "wall_seconds": 9.0, "train_seconds": 8.0, "steps": 3, "parameters": 5,
    "tokens": 6, "tokens_per_second": 7.0, "device": "cpu", "dtype": "float32", "threads": 2, "compiled": False,
    "versions": {},
}  # fmt: skip


def evaluation(seconds, loss):
    return {"event": "eval", "wall_seconds": seconds, "val_loss": loss}


def raced(seed, *points, target=1.5, recipe=(("steps", 3),)):
    timer = Timer(target, None)
    for point in points:
        timer.compare(evaluation(*point))
    return timer.outcome(FIGURES | {"seed": seed}, dict(recipe) | {"seed": seed}, MACHINE)


def test_time_is_that_of_the_first_evaluation_at_the_target():
    run = raced(1, (2.0, 1.8), (4.0, 1.5), (6.0, 1.4), (8.0, 1.6))
    assert (run["reached"], run["seconds"]) == (True, 4.0)
    missed = raced(1, (2.0, 1.8), (4.0, 1.51))
    assert (missed["reached"], missed["seconds"]) == (False, None)


def test_record_takes_three_seeds_of_one_recipe_that_all_reached_the_target():
    runs = [raced(seed, (float(10 + seed), 1.4)) for seed in (1, 2)]
    assert best(runs, 1.5, MACHINE) is None
    assert best([*runs, raced(2, (1.0, 1.4))], 1.5, MACHINE) is None, "the same seed twice"
    assert best([*runs, raced(3, (9.0, 1.6))], 1.5, MACHINE) is None, "one that missed"
    other = raced(3, (9.0, 1.4), recipe=(("steps", 4),))
    assert best([*runs, other], 1.5, MACHINE) is None, "another recipe"
    record = best([*runs, raced(3, (9.0, 1.4))], 1.5, MACHINE)
    assert (record.seconds, record.seeds) == (11.0, 3)
    assert best(record.runs, 1.5, MACHINE | {"cores": 4}) is None
    assert best(record.runs, 1.4, MACHINE) is None


def test_run_is_printed_with_the_target_and_the_record():
    runs = [raced(seed, (5.0, 1.9), (10.0, 1.45)) for seed in (1, 2, 3)]
    timer = Timer(1.5, best(runs, 1.5, MACHINE))
    assert timer.compare(evaluation(3.0, 2.0)) == "3.0 s: 2.0000, +0.5000 from 1.5; the record had no evaluation yet"
    assert timer.compare(evaluation(7.0, 1.8)).endswith("; the record was at 1.9000")
    assert timer.compare(evaluation(12.0, 1.7)).endswith("; the record was at 1.4500")
    assert "(nanoGPT's baby GPT on one A100: 180 s)" in Timer(1.4697, None).compare(evaluation(1.0, 2.0))


def test_what_several_seeds_come_to():
    runs = [raced(seed, (float(seed), 1.4)) for seed in (1, 2, 3)]
    assert summarize(runs, 1.5).endswith("all reached 1.5, in 2.0 s by the median.")
    assert summarize(runs[:2], 1.5).endswith("A record takes 3 seeds.")
    assert "1 of them reached 1.5, so it is no record" in summarize([runs[0], raced(4, (1.0, 1.9))], 1.5)


def test_options_of_the_command_are_separated_from_those_of_the_recipe():
    words = ["flash", "--target", "1.8", "--train.steps", "5", "--records=a b", "--run", "x", "--load", "y"]
    mine, others = split_flags(words, {"target", "seeds", "records", "run"})
    assert mine == ["--target", "1.8", "--records=a b", "--run", "x"]
    assert others == ["flash", "--train.steps", "5", "--load", "y"]


@pytest.mark.slow
def test_speedrun_runs_from_the_command_line(tmp_path):
    text(tmp_path / "text.txt")
    words = ["--corpus", "file", "--corpus.path", "text.txt", *tiny(), "--records", "records.jsonl", "--run", "run"]
    words = ["speedrun", "shakespeare_char", *words, "--no-compile", "--seeds", "3", "--target", "9"]
    code, out, err = finish(start(*words, cwd=tmp_path))
    assert code == 0, err
    assert out.count("The target 9 was reached") == 3
    assert "from 9\n" in out
    assert "; the record" not in out, "there is none before the third has ended"
    assert out.splitlines()[-1].startswith("3 seeds: losses ")
    runs = read_runs(tmp_path / "records.jsonl")
    assert [run["seed"] for run in runs] == [5, 6, 7]
    assert runs[0] == json.loads((tmp_path / "run-5/speedrun.json").read_text(encoding="utf-8"))
    assert runs[0]["recipe"]["train"]["steps"] == 6
    assert {"cpu", "cores", "gpu"} == runs[0]["machine"].keys()
    again = [*words[: words.index("--seeds")], "--target", "0.5"]
    code, out, err = finish(start(*again, cwd=tmp_path))
    assert code == 0, err
    assert "The target 0.5 was not reached in" in out


def test_first_of_several_seeds_is_the_one_that_is_named():
    assert first_seed(["flash", "--seed", "7", "--train.steps", "3"]) == (7, ["flash", "--train.steps", "3"])
    assert first_seed(["flash", "--seed=7", "--train.steps", "3"]) == (7, ["flash", "--train.steps", "3"])
    assert first_seed(["flash"]) == (1337, ["flash"])


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["--target", "0"], r"--target: expected a loss above 0 such as 1\.4697, got 0\.0"),
        (["--target", "nan"], "--target: expected a loss above 0"),
        (["--seeds", "2", "--seed", "x"], "--seed: expected a whole number of at least 0, got 'x'"),
        (["--seeds", "2", "--seed"], "--seed: expected a whole number of at least 0, got ''"),
        (["--seeds", "0"], "--seeds: expected a number of at least 1, got 0"),
        (["no_such_recipe"], "no such recipe"),
    ],
)
def test_mistakes_are_reported(words, match, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=match):
        nanotx_command(["speedrun", *words])


def test_invalid_list_of_records_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "records.jsonl").write_text('{"target": 1}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"--records records\.jsonl: line 1 is not a run of a speedrun"):
        nanotx_command(["speedrun", "--records", "records.jsonl"])
