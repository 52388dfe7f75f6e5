"""`nanotx replay`: a repeated step equals the step of the run to the bit, from any checkpoint."""

import hashlib
import json
import math
import shutil
from dataclasses import replace

import pytest
import torch
from helpers import text, tiny
from safetensors.torch import load_file

from nanotx.cli.main import run
from nanotx.errors import ConfigError, DataError, RunError, UnknownPart
from nanotx.nn.attention.fused import Fused
from nanotx.nn.attention.per_head import PerHead
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.canonical import to_canonical
from nanotx.nn.norm.none import NoNorm
from nanotx.nn.transformer import Model
from nanotx.runs.record import RunRecord
from nanotx.runs.replay import Replay, in_order, same, weights

DROPOUT = ["--block.dropout", "0.2", "--attention.dropout", "0.1", "--model.dropout", "0.1"]


def train(folder, *words, **flags):
    corpus = ["--corpus", "file", "--corpus.path", str(folder.parent / "text.txt")]
    assert run(["train", "shakespeare_char", "--run", str(folder), *tiny(**flags), *corpus, *words]) == 0


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A run of 10 steps with all that is random, and checkpoints of steps 8, 10 and perhaps 4."""
    folder = tmp_path_factory.mktemp("replay")
    text(folder / "text.txt")
    plan = {"train_steps": 10, "train_checkpoint_every": 4, "train_eval_every": 4, "train_batch_size": 4}
    train(folder / "run", *DROPOUT, "--train.grad-accum-steps", "2", "--train.ema-decay", "0.9", **plan)
    return folder / "run"


@pytest.fixture
def folder(sound, tmp_path):
    """A copy that may be harmed."""
    return shutil.copytree(sound, tmp_path / "run")


@pytest.fixture
def replay(tmp_path, capsys):
    """A function that repeats a step: what was written, and what was printed."""

    def taken(folder, step, *words, code=0):
        capsys.readouterr()
        assert run(["replay", str(folder), "--step", str(step), "--json", str(tmp_path / "step.json"), *words]) == code
        return json.loads((tmp_path / "step.json").read_text(encoding="utf-8")), capsys.readouterr().out

    return taken


def rows(folder):
    figures = map(json.loads, (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return {row["step"]: row for row in figures if row["event"] == "step"}


@pytest.mark.parametrize(("step", "begin"), [(1, 0), (3, 0), (8, None), (9, 8), (10, 8)])
def test_step_has_the_bits_that_were_recorded_with_a_checkpoint_before_it_and_without(sound, replay, step, begin):
    result, out = replay(sound, step)
    row = rows(sound)[step]
    assert result["bit_equal"] and result["first_mismatch"] is None
    assert {key: result[key] for key in ("loss", "grad_norm", "lr")} == {
        key: row[key] for key in ("loss", "grad_norm", "lr")
    }
    assert result["from_step"] == begin or begin is None
    origin = f"the checkpoint of step {result['from_step']}" if result["from_step"] else "the initial weights"
    assert out.splitlines()[0] == f"{sound}, step {step} of 10 recorded, repeated from {origin}"
    assert out.count(" equal") == 2 and repr(row["loss"]) in out and "differs" not in out


def test_steps_after_a_checkpoint_end_in_the_next_one_to_the_bit(sound):
    record = RunRecord(str(sound))
    for begin in (0, 8):
        replayed = Replay(record, begin)
        message = []
        replayed.go_to(10, message.append)
        assert message == [*range(begin + 1, 11)] and replayed.first_mismatch is None
        saved = sound / "checkpoints/step-10"
        for file, now in [
            ("model", replayed.trainer.weights()),
            ("optimizer", replayed.trainer.optimizer_state()[0]),
            ("ema", replayed.trainer.eval_weights()),
        ]:
            then = load_file(saved / f"{file}.safetensors")
            assert now.keys() == then.keys() and all(torch.equal(now[name], tensor) for name, tensor in then.items())


def test_windows_are_those_of_the_step_and_their_losses_have_its_loss_as_their_mean(sound, replay):
    result, out = replay(sound, 9)
    windows, whole = result["windows"], (sound.parent / "text.txt").read_text(encoding="utf-8")
    assert len(windows) == 4
    for window in windows:
        assert window["text"] == whole[window["token"] : window["token"] + 9]
        assert window["text"].replace("\n", "\\n") in out
    losses = [window["loss"] for window in windows]
    assert sum(losses) / 4 == pytest.approx(result["loss"], rel=1e-5) and len(set(losses)) == 4
    assert [window["token"] for window in windows] == Replay(RunRecord(str(sound)), 8).trainer.windows.starts(
        8, 4
    ).tolist()


def test_norms_are_those_of_weights_gradients_and_what_was_added(sound, replay):
    result, out = replay(sound, 9)
    before, replayed = load_file(sound / "checkpoints/step-8/model.safetensors"), Replay(RunRecord(str(sound)), 8)
    replayed.train_step()
    after = replayed.trainer.weights()
    assert [row["name"] for row in result["parameters"]] == list(weights(replayed.trainer))
    for row in result["parameters"]:
        name = row["name"]
        assert row["weight"] == pytest.approx(before[name].norm().item(), rel=1e-5)
        assert row["update"] == pytest.approx((after[name] - before[name]).norm().item(), rel=1e-4)
        assert row["numbers"] == before[name].numel()
        assert (
            row["ratio"] is None if row["weight"] == 0 else row["ratio"] == pytest.approx(row["update"] / row["weight"])
        )
    cut = min(result["grad_norm"], 1.0)
    for table in (result["parameters"], result["layers"]):
        assert math.hypot(*(row["gradient"] for row in table)) == pytest.approx(cut, rel=1e-4)
    assert [row["name"] for row in result["layers"]] == ["embedding", "blocks.0", "norm"]
    assert sum(row["numbers"] for row in result["layers"]) == sum(tensor.numel() for tensor in before.values())
    assert ("the gradient was clipped to a norm of 1" in out) == (result["grad_norm"] > 1)


def test_table_has_a_row_for_each_layer_or_each_parameter(sound, replay):
    result, out = replay(sound, 2)
    assert "blocks.0 " in out and "blocks.0.attention.to_out.weight" not in out
    _, out = replay(sound, 2, "--by", "parameter")
    lines = [line.split() for line in out.splitlines()]
    for row in result["parameters"]:
        assert any(line[:2] == [row["name"], f"{row['numbers']:,}"] for line in lines)


def test_replay_whose_bits_differ_from_metrics_jsonl_says_so_and_exits_with_1(folder, replay):
    text = (folder / "metrics.jsonl").read_text(encoding="utf-8")
    loss = rows(folder)[9]["loss"]
    assert text.count(repr(loss)) == 1
    (folder / "metrics.jsonl").write_text(text.replace(repr(loss), repr(math.nextafter(loss, 9))), encoding="utf-8")
    result, out = replay(folder, 9, code=1)
    assert not result["bit_equal"] and result["first_mismatch"] == 9
    assert out.splitlines()[1].startswith("step 9 differs from metrics.jsonl, so ")
    assert out.count("  differs") == 1 and out.count(" equal") == 1
    result, out = replay(folder, 10, code=1)  # whose own numbers are equal, but not those of a step on the way
    assert result["bit_equal"] and result["first_mismatch"] == 9
    assert out.splitlines()[1].startswith("step 9 differs from metrics.jsonl, so ")
    result, out = replay(folder, 8)  # before it
    assert result["bit_equal"] and result["first_mismatch"] is None and "differs" not in out


def test_damaged_checkpoint_is_skipped_by_name(folder, replay):
    with (folder / "checkpoints/step-8/model.safetensors").open("ab") as file:
        file.write(b"x")
    result, out = replay(folder, 10)
    assert result["bit_equal"] and result["from_step"] < 8
    assert out.startswith("skipped: ") and "step-8/model.safetensors: the file is not the one" in out.splitlines()[0]


def test_run_without_a_checkpoint_is_replayed_from_its_initial_weights(folder, replay):
    shutil.rmtree(folder / "checkpoints")
    result, _ = replay(folder, 10)
    assert result["bit_equal"] and result["from_step"] == 0 and result["first_mismatch"] is None


def test_step_across_a_stop_is_replayed_as_each_process_took_it(sound, tmp_path, replay):
    """A longer run has another rate from its stop on, and another implementation of attention has other last bits."""
    shutil.copy(sound.parent / "text.txt", tmp_path / "text.txt")
    folder = tmp_path / "longer"
    train(folder, *DROPOUT, train_checkpoint_every=3)
    more = ["--train.steps", "9", "--attention", "per_head", "--allow-mismatch", "--seed", "9"]
    assert run(["train", "shakespeare_char", "--run", str(folder), "--resume", *more]) == 0
    record = RunRecord(str(folder))
    assert [(segment.begin, segment.recipe.train.steps) for segment in record.segments] == [(0, 6), (6, 9)]
    replayed = Replay(record, 0)
    replayed.go_to(9, lambda step: None)
    assert replayed.first_mismatch is None
    then = load_file(folder / "checkpoints/step-9/model.safetensors")
    assert all(torch.equal(replayed.trainer.weights()[name], tensor) for name, tensor in then.items())
    for step in (5, 6, 7, 9):
        assert replay(folder, step)[0]["bit_equal"]
    result, _ = replay(folder, 8, "--by", "parameter")
    assert [row["name"] for row in result["parameters"]] == list(weights(Replay(record, 0).trainer))


def test_weights_laid_out_otherwise_keep_the_models_order():
    orders = []
    for part in (Fused, PerHead):
        block = PreNorm(attention=part(heads=2))
        model = Model(dim=8, layers=2, context=4, block=block, norm=NoNorm()).build(5)
        own = dict(model.named_parameters())
        shared = to_canonical(model, own)
        assert (list(shared) == list(own)) == (part is Fused)  # or there is nothing to put in order
        orders.append(list(in_order(model, shared)))
    assert orders[0] == orders[1]


def test_what_was_not_finite_is_null_in_a_journal():
    assert same(math.nan, None) and same(math.inf, None) and same(1.5, 1.5)
    assert not same(1.5, None) and not same(1.5, math.nextafter(1.5, 2)) and not same(math.nan, 1.5)


def test_what_cannot_be_replayed_is_refused_with_the_reason(folder, tmp_path, monkeypatch):
    for words, kind, message in [
        ([str(folder), "--step", "11"], RunError, r"step 11 is not recorded; its metrics\.jsonl holds 10 steps"),
        ([str(folder), "--step", "0"], ConfigError, r"step: expected a number of at least 1, got 0"),
        ([str(tmp_path / "no"), "--step", "1"], RunError, r"no: expected a run's folder, with a recipe\.toml in it"),
        ([str(folder), "--step", "1", "--bye", "x"], ConfigError, r"--bye: no such flag\. Did you mean '--by'"),
        ([str(folder), "--step", "1", "--load", "no.py"], ConfigError, r"--load no\.py: expected a Python file"),
    ]:
        with pytest.raises(kind, match=message):
            run(["replay", *words])
    for words in ([str(folder)], [str(folder), "--step", "one"]):
        with pytest.raises(ConfigError, match=r"--step: (missing|expected a whole number)"):
            run(["replay", *words])

    recipe = (folder / "recipe.toml").read_text(encoding="utf-8")
    (folder / "recipe.toml").write_text(recipe.replace('part = "rmsnorm"', 'part = "mine"'), encoding="utf-8")
    with pytest.raises(UnknownPart, match=r"no part named 'mine'.*imported by --load FILE\.py"):
        run(["replay", str(folder), "--step", "9"])
    (folder / "recipe.toml").write_text(recipe, encoding="utf-8")

    for checkpoint in (folder / "checkpoints").iterdir():
        change(checkpoint, "trainer.json", '"format": 4', '"format": 1')
    with pytest.raises(RunError, match="format 1; this nanotx reads 4"):
        run(["replay", str(folder), "--step", "9"])
    shutil.rmtree(folder / "checkpoints")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    (folder / "recipe.toml").write_text(recipe.replace('device = "cpu"', 'device = "cuda"'), encoding="utf-8")
    with pytest.raises(RunError, match=r"trained on cuda in float32.*torch sees none\.$"):
        run(["replay", str(folder), "--step", "9"])
    (folder / "metrics.jsonl").unlink()
    with pytest.raises(RunError, match=r"step 9 is not recorded; its metrics\.jsonl holds no step"):
        run(["replay", str(folder), "--step", "9"])


def test_another_text_is_refused_by_its_digest(folder):
    for checkpoint in (folder / "checkpoints").iterdir():
        recipe = (checkpoint / "recipe.toml").read_text(encoding="utf-8")
        (line,) = (line for line in recipe.splitlines() if line.startswith("path = "))
        change(checkpoint, "recipe.toml", line, f"path = {json.dumps(str(folder.parent / 'other.txt'))}")
    text(folder.parent / "other.txt", size=901)
    with pytest.raises(DataError, match=r"the run began with a corpus of SHA-256 .*bring the old one back"):
        run(["replay", str(folder), "--step", "9"])
    (folder.parent / "other.txt").unlink()
    with pytest.raises(DataError, match="there is no such file"):
        run(["replay", str(folder), "--step", "9"])


def change(checkpoint, name, old, new):
    """Change a text of a checkpoint, and make its manifest true again."""
    data = (checkpoint / name).read_text(encoding="utf-8").replace(old, new).encode("utf-8")
    (checkpoint / name).write_bytes(data)
    manifest = json.loads((checkpoint / "MANIFEST.json").read_text(encoding="utf-8"))
    manifest[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (checkpoint / "MANIFEST.json").write_text(json.dumps(manifest), encoding="utf-8")


def changed_run(tmp_path, *words):
    """Two runs: one of six steps, and a copy of it that was resumed with changes, whose old checkpoints are pruned."""
    corpus = ["--corpus", str(text(tmp_path / "text.txt"))]
    first, two = tmp_path / "one", tmp_path / "two"
    assert run(["train", "shakespeare_char", *tiny(), *corpus, "--run", str(first)]) == 0
    shutil.copytree(first, two)
    assert run(["resume", str(two), "--train.steps", "10", "--allow-mismatch", *words]) == 0
    for step in (2, 4, 6):
        shutil.rmtree(two / f"checkpoints/step-{step}", ignore_errors=True)
    return first, two


def test_steps_before_a_change_are_repeated_by_the_recipe_of_then(tmp_path, capsys):
    first, two = changed_run(tmp_path, "--optimizer", "adamw", "--train.grad-clip", "0.5")
    assert run(["replay", str(two), "--step", "3"]) == 0
    assert run(["replay", str(two), "--step", "7"]) == 0
    assert run(["diff", str(first), str(two), "--step", "6"]) == 0
    assert "No bit of the weights differs up to step 6" in capsys.readouterr().out
    record = RunRecord(str(two))
    before, after = (record.segment_at(step).recipe for step in (6, 7))
    assert (before.optimizer.part, after.optimizer.part) == ("muon", "adamw")
    assert before == replace(RunRecord(str(first)).recipe, train=before.train) and before.train.grad_clip != 0.5


def test_steps_before_a_change_of_tokenizer_are_refused_without_a_checkpoint_of_then(tmp_path):
    _, two = changed_run(tmp_path, "--tokenizer.nfc")
    with pytest.raises(RunError, match=r"its tokenizer was changed at step 6, .* cannot be repeated"):
        run(["replay", str(two), "--step", "3"])
