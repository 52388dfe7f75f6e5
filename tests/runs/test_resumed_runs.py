"""`nanotx resume` and `--resume`: what may be changed, what is printed, and what a change leaves where it fails."""

import json
import shlex
import shutil

import pytest
import torch
from helpers import text, tiny
from safetensors.torch import load_file

import nanotx
from nanotx.cli.main import run as nanotx_command
from nanotx.config.toml import read_toml
from nanotx.errors import ConfigError, DataError, NanotxError, RunError, TextError
from nanotx.nn.attention import Attention
from nanotx.runs.valid import Proven


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A complete run of six steps by adamw, begun with flags."""
    home = tmp_path_factory.mktemp("home")
    text(home / "text.txt")
    words = ["--corpus", "file", "--corpus.path", str(home / "text.txt"), "--optimizer", "adamw"]
    assert (
        nanotx_command(["train", "macbook", *words, "--run", str(home / "run"), *tiny(), "--schedule", "cosine"]) == 0
    )
    return home / "run"


@pytest.fixture
def folder(trained, tmp_path, monkeypatch):
    """A copy of it."""
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(trained, tmp_path / "run")


def rows(folder, *events):
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if row["event"] in events]


def contents(folder):
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in (".lock", ".owner")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_run_ends_with_the_commands_that_train_it_further_and_that_sample_from_it(folder, capsys):
    assert nanotx_command(["resume", str(folder)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert any("complete at step 6; nothing is left to do" in line for line in out)
    assert out[-2:] == [f"nanotx resume {folder} --train.steps 12", f"nanotx sample {folder}"]
    assert nanotx_command(shlex.split(out[-2])[1:]) == 0
    output = capsys.readouterr().out
    assert "train.steps 6 -> 12" in output and "schedule cosine now spans 12 steps instead of 6" in output
    assert [row["step"] for row in rows(folder, "step")] == list(range(1, 13))
    assert [(row["step"], row["changes"]) for row in rows(folder, "changed")] == [(6, {"train.steps": [6, 12]})]
    assert nanotx_command(["verify", str(folder)]) == 0
    assert nanotx_command(["replay", str(folder), "--step", "10"]) == 0


def test_commands_that_are_printed_are_quoted_for_the_shell(folder, monkeypatch, capsys):
    name = "a b;$(touch x)'q"
    folder.rename(folder.parent / name)
    assert nanotx_command(["resume", name]) == 0
    for line in capsys.readouterr().out.splitlines()[-2:]:
        assert shlex.split(line)[2] == name
    (folder.parent / name).rename(folder.parent / "-x")
    assert nanotx_command(["train", "macbook", "--run=-x", "--resume"]) == 0
    lines = capsys.readouterr().out.splitlines()[-2:]
    assert [shlex.split(line)[2] for line in lines] == ["./-x", "./-x"]
    assert nanotx_command([*shlex.split(lines[-1])[1:], "--max-new-tokens", "2"]) == 0


def test_resume_equals_the_run_that_was_never_stopped(trained, folder, tmp_path):
    corpus = ["--corpus", "file", "--corpus.path", str(trained.parent / "text.txt"), "--optimizer", "adamw"]
    whole = tmp_path / "whole"
    flags = ["--run", str(whole), *tiny(), "--schedule", "constant"]
    shutil.rmtree(folder)
    assert nanotx_command(["train", "macbook", *corpus, *flags[:2], *tiny(train_steps=4), *flags[-2:]]) == 0
    assert nanotx_command(["resume", str(whole), "--train.steps", "6"]) == 0
    assert nanotx_command(["train", "macbook", *corpus, "--run", str(folder), *tiny(), *flags[-2:]]) == 0
    first, two = (load_file(path / "checkpoints/step-6/model.safetensors") for path in (whole, folder))
    assert all(torch.equal(first[name], two[name]) for name in first)


@pytest.mark.parametrize(
    ("words", "kind", "message"),
    [
        ([], ConfigError, "nanotx resume: RUN: missing; it comes before the options"),
        (["run", "other"], ConfigError, "nanotx resume: RUN: expected one, got run other"),
        (["nowhere"], RunError, "nowhere: expected a run's folder"),
        (["run", "--run", "other"], ConfigError, "--run: no such flag: the run is the first argument"),
        (["run", "--seed", "7"], ConfigError, "seed was 5, not 7"),
        (["run", "--train.steps", "3"], ConfigError, "3 is fewer"),
    ],
)
def test_resume_refuses_what_is_no_run_or_would_be_another(folder, words, kind, message):
    before = contents(folder)
    with pytest.raises(kind, match=message):
        nanotx_command(["resume", *words])
    assert contents(folder) == before


def test_resume_explains_itself(capsys):
    assert nanotx_command(["resume", "--help"]) == 0
    assert "--train.steps N" in capsys.readouterr().out


def test_run_started_with_flags_is_resumed_by_its_recipe_name_alone(folder, capsys):
    assert nanotx_command(["train", "macbook", "--run", str(folder), "--resume"]) == 0
    output = capsys.readouterr().out
    assert "macbook.toml: ignored" in output and "train.steps 2000, and the run has 6" in output
    assert "the run is complete at step 6" in output
    with pytest.raises(ConfigError, match=r"model\.dim was 16, not 128"):  # what is given now is compared
        nanotx_command(["train", "macbook", "--run", str(folder), "--resume", "--model.dim", "128"])
    assert "seed" not in output


def test_corpus_that_grew_by_a_new_character_is_refused_by_its_digest(folder, trained):
    file = trained.parent / "text.txt"
    old = file.read_text(encoding="utf-8")
    try:
        for grown in ("\u00e9" + old, old + "\u00e9"):  # in the training text, in the validation text
            file.write_text(grown, encoding="utf-8")
            with pytest.raises(
                DataError, match=r"the run began with a corpus of length 900 and .* now it has length 901"
            ):
                nanotx_command(["resume", str(folder), "--train.steps", "8"])
    finally:
        file.write_text(old, encoding="utf-8")


MEMORY = {"micro_batch_size": (0, 1), "activation_checkpointing": (False, True), "loss_chunk_size": (0, 5)}


def test_what_saves_memory_may_change_on_resume_and_is_recorded_and_changes_only_rounding(folder):
    other = shutil.copytree(folder, folder.parent / "other")
    words = ["--train.micro-batch-size", "1", "--train.activation-checkpointing", "--train.loss-chunk-size", "5"]
    assert nanotx_command(["resume", str(folder), "--train.steps", "12", *words]) == 0
    assert nanotx_command(["resume", str(other), "--train.steps", "12"]) == 0
    (row,) = rows(folder, "changed")
    assert row["changes"] == {f"train.{name}": list(pair) for name, pair in MEMORY.items()} | {"train.steps": [6, 12]}
    losses, others = ([row["loss"] for row in rows(path, "step")] for path in (folder, other))
    assert losses == pytest.approx(others, abs=1e-5) and losses[:6] == others[:6]
    assert nanotx_command(["verify", str(folder)]) == 0
    for step in ("6", "12"):
        assert nanotx_command(["replay", str(folder), "--step", step]) == 0
    assert nanotx_command(["resume", str(folder), "--train.steps", "13"]) == 0  # and stays changed
    assert nanotx_command(["resume", str(folder), "--train.steps", "14", "--train.grad-accum-steps", "2",
                           "--train.micro-batch-size", "0"]) == 0  # fmt: skip


def test_auto_on_resume_is_decided_where_the_run_has_not_decided_it(folder):
    assert nanotx_command(["resume", str(folder), "--train.steps", "8", "--train.micro-batch-size", "auto"]) == 0
    assert rows(folder, "changed")[-1]["changes"]["train.micro_batch_size"] == [0, 2]  # two windows fit
    assert nanotx_command(["resume", str(folder), "--train.steps", "9", "--train.micro-batch-size", "1"]) == 0
    assert nanotx_command(["resume", str(folder), "--train.steps", "10", "--train.micro-batch-size", "auto"]) == 0
    assert rows(folder, "changed")[-1]["changes"] == {"train.steps": [9, 10]}  # what was decided stays


# --allow-mismatch


def test_another_optimizer_begins_with_no_state_and_the_change_is_a_row_of_the_journal(folder, capsys):
    words = ["resume", str(folder), "--train.steps", "10", "--allow-mismatch", "--optimizer", "muon"]
    assert nanotx_command(words) == 0
    assert "optimizer muon starts without state; that of adamw is discarded" in capsys.readouterr().out
    (row,) = rows(folder, "changed")
    assert row["step"] == 6 and row["changes"]["optimizer.part"] == ["adamw", "muon"]
    assert read_toml(folder / "recipe.toml")["optimizer"]["part"] == "muon"
    assert nanotx.load(folder).step == 10
    assert nanotx_command(["verify", str(folder)]) == 0
    for step in ("6", "9"):
        assert nanotx_command(["replay", str(folder), "--step", step]) == 0
    assert "differs" not in capsys.readouterr().out
    assert nanotx_command(["resume", str(folder), "--train.steps", "11"]) == 0  # and stays changed


@pytest.mark.parametrize(
    "words",
    [
        ["--train.ema-decay", "0.9"],
        ["--schedule", "wsd"],
        ["--optimizer.lr", "0.5", "--seed", "8"],
        ["--train.batch-size", "4"],
        ["--embedding", "bigram"],
        ["--model.dim", "32"],
        ["--tokenizer", "byte"],
        ["--model.layers", "2"],
    ],
    ids=" ".join,
)
def test_change_is_made_or_refused_before_anything_is_written(folder, words):
    before = contents(folder)
    try:
        code = nanotx_command(["resume", str(folder), "--train.steps", "8", "--allow-mismatch", *words])
    except NanotxError:
        assert contents(folder) == before
    else:
        assert code == 0 and nanotx.load(folder).step == 8
        assert rows(folder, "changed")[-1]["changes"].keys() >= {"train.steps"}
        assert nanotx_command(["replay", str(folder), "--step", "8"]) == 0


def test_change_that_fails_at_its_first_step_leaves_the_run_as_it_was(folder, monkeypatch):
    from nanotx.optim.muon import MuonOptimizer

    def fails(self, closure=None):
        raise KeyError("momentum")

    monkeypatch.setattr(MuonOptimizer, "step", fails)
    before = contents(folder)
    with pytest.raises(ConfigError, match=r"--allow-mismatch: the first step of the changed recipe fails: KeyError"):
        nanotx_command(["resume", str(folder), "--train.steps", "8", "--allow-mismatch", "--optimizer", "muon"])
    assert contents(folder) == before


def test_trial_step_changes_no_bit_of_a_changed_run(folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "other")
    words = ["--allow-mismatch", "--optimizer.lr", "0.002"]
    assert nanotx_command(["resume", str(folder), "--train.steps", "8", *words]) == 0
    assert nanotx_command(["resume", str(other), "--train.steps", "8", "--train.checkpoint-every", "1", *words]) == 0
    assert [row["loss"] for row in rows(folder, "step")] == [row["loss"] for row in rows(other, "step")]
    assert nanotx_command(["replay", str(folder), "--step", "8"]) == 0


@pytest.mark.parametrize(
    "words",
    [
        ["--optimizer.lr", "0.02"],
        ["--optimizer", "muon"],
        ["--block.dropout", "0.3", "--seed", "8"],
        ["--train.batch-size", "4", "--schedule", "constant"],
    ],
    ids=" ".join,
)
def test_steps_after_a_change_are_those_from_the_checkpoint_as_if_none_had_been_tried(folder, tmp_path, words):
    assert nanotx_command(["resume", str(folder), "--train.steps", "8", "--allow-mismatch", *words]) == 0
    for step in ("7", "8"):  # nothing is tried before a replay
        assert nanotx_command(["replay", str(folder), "--step", step, "--json", str(tmp_path / "x.json")]) == 0
        figures = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))
        assert (figures["from_step"], figures["first_mismatch"], figures["bit_equal"]) == (6, None, True), step


def test_ema_enabled_by_a_change_starts_from_the_weights_of_the_checkpoint(folder):
    words = ["--train.steps", "7", "--allow-mismatch", "--train.ema-decay", "0.9", "--optimizer.lr", "0.02"]
    assert nanotx_command(["resume", str(folder), *words]) == 0
    before = load_file(folder / "checkpoints/step-6/model.safetensors")
    after, average = (load_file(folder / f"checkpoints/step-7/{name}.safetensors") for name in ("model", "ema"))
    decay = 7 / (7 + 9)
    assert average.keys() == before.keys() == after.keys()
    for name, tensor in average.items():
        torch.testing.assert_close(tensor, before[name] * decay + after[name] * (1 - decay), rtol=5e-7, atol=1e-8)
    assert any(not torch.allclose(before[name], after[name], rtol=0, atol=1e-5) for name in before)


def test_changed_run_that_is_killed_before_its_next_checkpoint_is_resumed_as_it_was_changed(folder):
    assert nanotx_command(["resume", str(folder), "--train.steps", "8", "--allow-mismatch", "--seed", "8"]) == 0
    shutil.rmtree(folder / "checkpoints/step-8")
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line)["step"] <= 7]
    (folder / "metrics.jsonl").write_text("".join(kept), encoding="utf-8")
    assert nanotx_command(["resume", str(folder)]) == 0
    assert nanotx.load(folder).recipe.seed == 8


def test_texts_written_after_the_checkpoint_stand_once_in_samples_after_a_resume(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text(tmp_path / "text.txt")
    words = ["--corpus", "file", "--corpus.path", "text.txt", "--run", "run"]
    assert nanotx_command(["train", "macbook", *words, *tiny(train_sample_every=1, train_checkpoint_every=2)]) == 0
    run = tmp_path / "run"
    whole = (run / "samples.txt").read_text(encoding="utf-8")
    shutil.rmtree(run / "checkpoints" / "step-6")
    assert nanotx_command(["resume", "run"]) == 0
    assert (run / "samples.txt").read_text(encoding="utf-8") == whole


@pytest.mark.parametrize("words", [["--tokenizer", "bpe", "--tokenizer.vocab-size", "260"], ["--tokenizer", "char"]])
def test_tokenizer_is_not_trained_on_the_validation_text(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    training = "ab cd abcd dcba " * 60
    files = []
    for name, validation in {"one": "ab cd " * 16, "other": "dcba bb aa" * 10}.items():
        (tmp_path / f"{name}.txt").write_text(training + validation[:96], encoding="utf-8")
        flags = ["--corpus", "file", "--corpus.path", f"{name}.txt", "--run", name, *tiny(train_steps=1)]
        assert nanotx_command(["train", "macbook", *flags, *words]) == 0
        files.append(json.loads((tmp_path / name / "tokenizer.json").read_text(encoding="utf-8"))["sha256"])
    assert files[0] == files[1]
    (tmp_path / "new.txt").write_text(training + "ab cd zz" * 12, encoding="utf-8")
    flags = ["--corpus", "file", "--corpus.path", "new.txt", "--run", "new", *tiny(train_steps=1)]
    if words[1] == "char":
        with pytest.raises(TextError, match="validation text"):
            nanotx_command(["train", "macbook", *flags, *words])


def test_attention_with_its_own_function_is_equivalent_to_no_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text(tmp_path / "text.txt")
    own = [name for name in Attention.names() if not Attention.find(name).equivalent_to]
    assert len(own) >= 2
    words = ["train", "macbook", "--corpus", "file", "--corpus.path", "text.txt", "--run", "run", *tiny()]
    assert nanotx_command([*words, "--attention", own[0]]) == 0
    with pytest.raises(ConfigError, match=r"attention\.part"):
        nanotx_command([*words, "--resume", "--attention", own[1]])


def test_checkpoint_keeps_the_wall_clock_seconds_of_all_processes_before_it(folder):
    def earlier(step):
        return json.loads((folder / f"checkpoints/step-{step}/trainer.json").read_text(encoding="utf-8"))["progress"]

    first = earlier(6)["earlier_seconds"]
    assert first > 0
    assert nanotx_command(["resume", str(folder), "--train.steps", "8"]) == 0
    assert earlier(8)["earlier_seconds"] > first


def test_checkpoint_changed_in_place_is_verified_again(folder):
    weights = folder / "checkpoints" / "step-4" / "model.safetensors"
    proven = Proven()
    assert proven(weights.parent)
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    with weights.open("r+b") as file:  # the same file, as long as before
        file.write(data)
    assert not proven(weights.parent)
