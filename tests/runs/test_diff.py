"""`nanotx diff`: the first step and the first tensor that differ by a bit, whatever makes them differ."""

import hashlib
import json
import math
import shutil

import pytest
import torch
from helpers import text, tiny
from safetensors.torch import load_file, save_file

from nanotx.cli.main import run
from nanotx.errors import ConfigError, RunError
from nanotx.runs.diff import difference, misfit, walk
from nanotx.runs.record import RunRecord
from nanotx.runs.replay import Replay, weights


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    """A function that trains a run of 8 steps, with checkpoints of 4 and 8, otherwise as the words say."""
    folder = tmp_path_factory.mktemp("diff")
    text(folder / "text.txt")
    done = {}

    def trained(*words, **flags):
        name = " ".join([*words, *map(str, flags.items())])
        if name not in done:
            path = folder / f"run{len(done)}"
            corpus = ["--corpus", "file", "--corpus.path", str(folder / "text.txt")]
            plan = {"train_steps": 8, "train_checkpoint_every": 4, "train_eval_every": 0, "train_sample_every": 0}
            common = ["--run", str(path), *tiny(**plan | flags), *corpus, "--block.dropout", "0.2"]
            assert run(["train", "shakespeare_char", *common, *words]) == 0
            done[name] = path
        return done[name]

    return trained


@pytest.fixture
def copied(train, tmp_path):
    """A copy of the plain run that may be harmed."""
    return shutil.copytree(train(), tmp_path / "copy")


@pytest.fixture
def diff(tmp_path, capsys):
    """A function that compares two runs: the exit code, what was written, and what was printed."""

    def compared(first, other, *words):
        capsys.readouterr()
        code = run(["diff", str(first), str(other), "--json", str(tmp_path / "diff.json"), *words])
        figures = json.loads((tmp_path / "diff.json").read_text(encoding="utf-8"))
        assert figures["equal"] == (code == 0)
        return code, figures, capsys.readouterr().out

    return compared


def test_run_and_its_copy_differ_by_no_bit_as_their_last_checkpoints_say(train, copied, diff):
    code, result, out = diff(train(), copied)
    assert code == 0 and result["first"] is None and result["recipe"] == {} and result["journal_step"] is None
    assert result["from_step"] == result["last_step"] == 8
    assert "recipes: the same" in out and "corpora: the same, SHA-256" in out and "tokenizers: the same" in out
    assert out.splitlines()[-1] == "No bit of the weights differs up to step 8."


def test_two_runs_of_one_recipe_are_taken_again_where_they_have_no_checkpoint_in_common(train, copied, diff):
    shutil.rmtree(copied / "checkpoints/step-8")
    code, result, out = diff(train(), copied)
    assert code == 0 and (result["from_step"], result["last_step"]) == (4, 8)
    shutil.rmtree(copied / "checkpoints")
    code, result, out = diff(train(), copied)
    assert (
        code == 0 and (result["from_step"], result["last_step"]) == (0, 8) and result["first_mismatch"] == [None, None]
    )
    message = "repeated from the initial weights: equal to its metrics.jsonl to the bit, up to step 8"
    assert out.count(message) == 2


def test_another_interval_of_saving_and_evaluating_is_printed_and_is_no_difference(train, diff):
    code, result, out = diff(train(), train(train_checkpoint_every=3, train_eval_every=2))
    assert code == 0 and set(result["recipe"]) == {"train.checkpoint_every", "train.eval_every"}
    assert "train.eval_every" in out and result["recipe"]["train.eval_every"] == [0, 2]


def test_another_seed_differs_in_the_first_weight_before_any_step(train, diff):
    code, result, out = diff(train(), train(seed=6))
    first = result["first"]
    assert code == 1 and (first["step"], first["tensor"]) == (0, "embedding.weight") and result["journal_step"] == 1
    assert result["recipe"] == {"seed": [5, 6]} and first["loss"] == []
    assert first["numbers"] <= first["of"] and first["tensors"] > 1
    assert out.splitlines()[-1].startswith("Before any step they differ, first in embedding.weight: ")


def test_rate_of_matrices_differs_in_the_first_matrix_after_the_first_step(train, diff):
    """Muon steps matrices by `lr` and all else by `adamw_lr`, so embedding and vectors of step 1 are the same."""
    code, result, out = diff(train(), train("--optimizer.lr", "0.03"))
    first = result["first"]
    assert code == 1 and first["step"] == 1
    replayed = Replay(RunRecord(str(train())), 0)
    matrices = [
        name for name, param in weights(replayed.trainer).items() if name.startswith("blocks") and param.ndim == 2
    ]
    assert first["tensor"] == matrices[0] and first["tensors"] == len(matrices)
    assert first["loss"][0] == first["loss"][1]  # of weights that were still equal
    assert result["journal_step"] == 2 and result["first_mismatch"] == [None, None]
    assert f"After step 1 they differ, first in {matrices[0]}" in out


def test_schedule_that_falls_later_differs_from_the_step_at_which_it_falls(train, diff):
    first, other = train(), train(train_steps=12)
    recipes = [RunRecord(str(folder)).recipe for folder in (first, other)]
    factors = [[recipe.schedule.factor(step, recipe.train.steps) for step in range(8)] for recipe in recipes]
    steps = [step for step, (mine, theirs) in enumerate(zip(*factors, strict=True), start=1) if mine != theirs]
    code, result, _ = diff(first, other)
    assert code == 1 and steps[0] > 1 and result["first"]["step"] == steps[0]
    code, result, out = diff(first, other, "--step", str(steps[0] - 1))
    assert result["first"] is None and out.splitlines()[-1].endswith(f"differs up to step {steps[0] - 1}.")


def test_dropout_that_one_run_has_not_is_found(train, diff):
    code, result, _ = diff(train(), train("--model.dropout", "0.3"))
    assert code == 1 and result["first"]["step"] == 1 and result["first"]["loss"][0] != result["first"]["loss"][1]


class Meddled(Replay):
    """One that has a weight changed by a bit after a step."""

    def train_step(self):
        row = super().train_step()
        if self.step == 3:
            with torch.no_grad():
                weight = dict(self.trainer.model.named_parameters())["blocks.0.ffn.to_out.weight"]
                weight[1, 2] *= 1 + 2**-23
        return row


def test_one_weight_that_is_changed_by_a_bit_is_named_with_its_step(train):
    record = RunRecord(str(train()))
    message = []
    parting = walk(Replay(record, 0), Meddled(record, 0), 8, message.append)
    assert parting.step == 3 and message == [1, 2, 3] and parting.rows[0]["loss"] == parting.rows[1]["loss"]
    result = parting.difference
    assert (result.tensor, result.numbers, result.tensors) == ("blocks.0.ffn.to_out.weight", 1, 1)
    assert 0 < result.largest < 1e-6 and "no other tensor differs" in str(result)


def test_differing_checkpoints_and_metrics_logs_are_reported_though_the_replayed_steps_agree(train, copied, diff):
    """What a run did elsewhere, or what was done to it, is not what it does here."""
    for step, file, name in ((8, "model", "norm.weight"), (4, "optimizer", "norm.weight/exp_avg")):
        checkpoint = copied / f"checkpoints/step-{step}"
        tensors = load_file(checkpoint / f"{file}.safetensors")
        tensors[name][0] += 0.5
        save_file(tensors, checkpoint / f"{file}.safetensors")
        seal(checkpoint, f"{file}.safetensors")
    code, result, out = diff(train(), copied)
    assert code == 1 and result["first"] is None and result["from_step"] == 0
    assert result["checkpoints"]["8"].startswith("model.safetensors: norm.weight: 1 of 16 numbers, by at most 0.5")
    assert result["checkpoints"]["4"].startswith("optimizer.safetensors: norm.weight/exp_avg: 1 of 16 numbers")

    shutil.rmtree(copied / "checkpoints")
    shutil.copytree(train() / "checkpoints/step-4", copied / "checkpoints/step-4")
    rows = [json.loads(line) for line in (copied / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    for row in rows:
        if row["event"] == "step" and row["step"] >= 6:
            row["grad_norm"] = math.nextafter(row["grad_norm"], 9)
    (copied / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    code, result, out = diff(train(), copied)
    assert (
        code == 1 and result["first"] is None and result["journal_step"] == 6 and result["first_mismatch"] == [None, 6]
    )
    assert "metrics.jsonl: they differ first at step 6: loss " in out
    assert f"{copied}, repeated from the checkpoints of step 4: step 6 differs from its metrics" in out
    code, result, out = diff(train(), copied, "--step", "5")
    assert code == 0 and result["last_step"] == 5


@pytest.mark.parametrize("last", [1, 4, 5, 7, 8])
def test_diff_up_to_a_step_neither_begins_from_nor_reports_a_checkpoint_beyond_it(train, copied, diff, last):
    begin = max(step for step in (0, 4, 8) if step <= last)
    code, result, out = diff(train(), copied, "--step", str(last))
    assert (code, result["from_step"], result["last_step"], result["checkpoints"]) == (0, begin, last, {})
    assert f"up to step {last}" in out
    for checkpoint in (copied / "checkpoints").glob("step-*"):
        tensors = load_file(checkpoint / "optimizer.safetensors")
        tensors["norm.weight/exp_avg"][0] += 0.5
        save_file(tensors, checkpoint / "optimizer.safetensors")
        seal(checkpoint, "optimizer.safetensors")
    code, result, out = diff(train(), copied, "--step", str(last))
    message = {str(step) for step in (4, 8) if step <= last}
    end = f"Repeated by one process, no bit of the weights differs up to step {last}; as they were saved, they differ"
    assert out.splitlines()[-1].startswith(end if message else f"No bit of the weights differs up to step {last}.")
    assert (code, result["from_step"], result["checkpoints"].keys()) == (1 if message else 0, 0, message)


def seal(checkpoint, name):
    """Make the manifest true again, as if what was changed had been saved so."""
    data, manifest = (checkpoint / name).read_bytes(), checkpoint / "MANIFEST.json"
    figures = json.loads(manifest.read_text(encoding="utf-8"))
    figures[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    manifest.write_text(json.dumps(figures), encoding="utf-8")


def test_models_of_other_shapes_are_reported_at_once(train, monkeypatch):
    for words, flags, message in [
        (
            [],
            {"model_dim": 32},
            r"embedding\.weight is \(\d+, 16\) in the first and \(\d+, 32\) in the second; \d+ tensors",
        ),
        ([], {"model_layers": 2}, r"blocks\.1\.\S+ is missing in the first and \("),
        (["--attention.no-qk-norm"], {}, r"q_norm\.weight is \(8,\) in the first and missing in the second; 2 tens"),
    ]:
        monkeypatch.undo()
        other = train(*words, **flags)
        monkeypatch.setattr("nanotx.runs.record.load_dataset", None)  # no text is read for that
        with pytest.raises(
            RunError, match=rf"their models have different shapes, so no step .*: .*{message}"
        ) as caught:
            run(["diff", str(train()), str(other)])
        assert caught.value.exit_code == 4


def test_another_text_of_the_same_characters_is_detected_by_its_digest(train, diff, tmp_path):
    file = text(tmp_path / "other.txt", size=1000)
    other = train("--corpus.validation", "0.5")
    mine, theirs = (Replay(RunRecord(str(folder)), 0).trainer.windows for folder in (train(), other))
    steps = [step for step in range(8) if (mine.starts(step, 2) != theirs.starts(step, 2)).any()]
    code, result, out = diff(train(), other)
    assert code == 1 and len(set(result["corpus_sha256"])) == 1 and result["first"]["step"] == steps[0] + 1
    longer = shutil.copytree(train(), tmp_path / "longer")
    shutil.rmtree(longer / "checkpoints")
    recipe = (longer / "recipe.toml").read_text(encoding="utf-8")
    (line,) = (line for line in recipe.splitlines() if line.startswith("path = "))
    (longer / "recipe.toml").write_text(recipe.replace(line, f"path = {json.dumps(str(file))}"), encoding="utf-8")
    code, result, out = diff(train(), longer)
    assert code == 1 and len(set(result["corpus_sha256"])) == 2 and "corpus.path" in result["recipe"]
    assert result["first_mismatch"][0] is None and result["first_mismatch"][1] == result["first"]["step"]
    assert " and ".join(f"{item[:12]}..." for item in result["corpus_sha256"]) in out


def test_bits_are_compared_and_not_values():
    first = {"a": torch.tensor([0.0, math.nan, 1.0]), "b": torch.zeros(2, dtype=torch.bfloat16)}
    assert difference(first, {name: tensor.clone() for name, tensor in first.items()}, ["a", "b"]) is None
    result = difference(first, first | {"a": torch.tensor([-0.0, math.nan, 1.0])}, ["b", "a"])
    assert (result.tensor, result.numbers, result.of) == ("a", 1, 3)
    other = {"a": first["a"] + 1, "b": first["b"] + 1}
    assert [difference(first, other, order).tensor for order in (["a", "b"], ["b", "a"])] == ["a", "b"]
    assert difference(first, other, "ab").tensors == 2
    assert (
        misfit(first, first) == ""
        and misfit(first, {"a": first["a"]}) == "b is (2,) in the first and missing in the second"
    )


def test_what_cannot_be_compared_is_refused_with_the_reason(train, tmp_path):
    folder = str(train())
    for words, kind, message in [
        ([folder, str(tmp_path)], RunError, "expected a run's folder"),
        ([folder, folder, "--step", "9"], RunError, r"step 9 is not recorded; its metrics\.jsonl holds 8 steps"),
        ([folder, folder, "--step", "0"], ConfigError, "step: expected a number of at least 1"),
        ([folder, folder, folder], ConfigError, "unexpected argument"),
        ([folder, folder, "--stop", "3"], ConfigError, r"--stop: no such flag\. Did you mean '--step'"),
    ]:
        with pytest.raises(kind, match=message):
            run(["diff", *words])
    with pytest.raises(ConfigError, match="RUN RUN: missing"):
        run(["diff", folder])
