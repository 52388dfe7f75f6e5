"""`nanotx verify`: a sound run holds in every check, and each harm is found by the check that is there for it."""

import hashlib
import json
import re
import shutil

import pytest
import torch
from helpers import text, tiny
from safetensors.torch import load_file, save_file

from nanotx.cli.main import run
from nanotx.errors import ConfigError, RunError, UnknownPart
from nanotx.runs.load import load
from nanotx.tokenizers.byte import Byte


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A run that nobody touched, with checkpoints of steps 4 and 6, and evaluations at 3 and 6."""
    folder = tmp_path_factory.mktemp("verify")
    path = str(text(folder / "text.txt"))
    words = ["--corpus", "file", "--corpus.path", path, "--train.ema-decay", "0.9"]
    assert run(["train", "shakespeare_char", "--run", str(folder / "run"), *tiny(), *words]) == 0
    return folder / "run"


@pytest.fixture
def folder(sound, tmp_path):
    """A copy that may be harmed."""
    return shutil.copytree(sound, tmp_path / "run")


@pytest.fixture
def verify(tmp_path, capsys):
    """A function that verifies a run: the exit code, the checks by name, and what was printed."""

    def checked(folder, *words):
        capsys.readouterr()
        code = run(["verify", str(folder), "--json", str(tmp_path / "checks.json"), *words])
        figures = json.loads((tmp_path / "checks.json").read_text(encoding="utf-8"))
        assert figures["sound"] == (code == 0)
        return code, {check["name"]: check for check in figures["checks"]}, capsys.readouterr().out

    return checked


def others(checks, *names):
    """The results of all checks but these."""
    return {check["result"] for name, check in checks.items() if name not in names}


def flip(file):
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)


def seal(checkpoint):
    """Make the manifest true again, as if what was changed had been saved so."""
    names = json.loads((checkpoint / "MANIFEST.json").read_text(encoding="utf-8"))
    data = {name: (checkpoint / name).read_bytes() for name in names}
    manifest = {name: {"bytes": len(item), "sha256": hashlib.sha256(item).hexdigest()} for name, item in data.items()}
    (checkpoint / "MANIFEST.json").write_text(json.dumps(manifest), encoding="utf-8")


def test_sound_run_passes_every_check_and_its_loss_is_reproduced_to_the_bit(sound, verify):
    code, checks, out = verify(sound)
    assert code == 0 and others(checks) == {"holds"}
    wanted = [f"step-{step} {what}" for step in (6, 4) for what in ("files", "weights", "tokenizer")]
    last = ["metrics.jsonl", "summary.json", "report.html", "validation loss"]
    assert list(checks) == ["recipe.toml", "tokenizer.json", *wanted, *last]
    loss = checks["validation loss"]
    assert loss["bit_equal"] and loss["now"] == loss["recorded"] and loss["step"] == 6 and loss["same_settings"]
    assert "equal to the last bit" in out and f"{sound}: all {len(checks)} checks hold." in out
    assert "ema.safetensors" in checks["step-6 files"]["detail"]
    assert "6 steps, 2 evaluations" in checks["metrics.jsonl"]["detail"] and "torn" not in out
    assert out.splitlines()[0].split() == ["check", "result", "detail"]


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "trainer.json", "MANIFEST.json"])
def test_flipped_bit_is_named_with_its_file_and_the_evaluation_goes_to_an_older_checkpoint(folder, verify, name):
    flip(folder / "checkpoints/step-6" / name)
    code, checks, out = verify(folder)
    assert code == 4 and checks["step-6 files"]["result"] == "fails"
    assert name in checks["step-6 files"]["detail"] and name in out
    assert "step-6 weights" not in checks and others(checks, "step-6 files", "validation loss") == {"holds"}
    assert checks["validation loss"]["result"] == "not made"  # the step of the other one was not evaluated
    assert "no valid checkpoint is of a step that was evaluated" in out


def test_loss_is_checked_at_the_newest_checkpoint_that_was_evaluated(folder, verify):
    shutil.rmtree(folder / "checkpoints/step-6")
    rows = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    loaded = load(folder)
    at = next(index for index, row in enumerate(rows) if json.loads(row)["step"] == 5)
    row = {"event": "eval", "step": 4, "train_loss": 1.0, "val_loss": 1.0, "bits_per_byte": 1.0}
    (folder / "metrics.jsonl").write_text("".join([*rows[:at], json.dumps(row) + "\n", *rows[at:]]), encoding="utf-8")
    code, checks, _ = verify(folder)
    loss = checks["validation loss"]
    assert (code, loss["result"], loss["step"], loaded.step) == (4, "fails", 4, 4)
    assert "1.000000 is recorded" in loss["detail"] and others(checks, "validation loss") == {"holds"}


def test_weights_that_do_not_fit_the_recipe_are_reported(folder, verify):
    for step in (6, 4):
        checkpoint = folder / f"checkpoints/step-{step}"
        weights = load_file(checkpoint / "model.safetensors")
        change = {"extra": torch.zeros(2)} if step == 6 else {"embedding.weight": weights["embedding.weight"].flatten()}
        save_file(weights | change, checkpoint / "model.safetensors")
        seal(checkpoint)
    code, checks, _ = verify(folder)
    assert code == 4 and checks["step-6 files"]["result"] == checks["step-4 files"]["result"] == "holds"
    assert checks["step-6 weights"]["result"] == checks["step-4 weights"]["result"] == "fails"
    assert "extra" in checks["step-6 weights"]["detail"] and "has shape" in checks["step-4 weights"]["detail"]
    assert checks["validation loss"]["result"] == "not made"


def test_ema_that_the_run_was_evaluated_by_is_checked_too(folder, verify):
    checkpoint = folder / "checkpoints/step-6"
    weights = load_file(checkpoint / "ema.safetensors")
    save_file({name: tensor * 1.5 for name, tensor in weights.items()}, checkpoint / "ema.safetensors")
    seal(checkpoint)
    code, checks, _ = verify(folder)
    assert (
        code == 4 and checks["step-6 weights"]["result"] == "holds" and checks["validation loss"]["result"] == "fails"
    )


def test_replaced_tokenizer_is_detected_in_the_run_and_in_a_checkpoint(folder, verify):
    other = Byte().train([])
    old = (folder / "tokenizer.json").read_bytes()
    other.save(folder / "tokenizer.json")
    code, checks, _ = verify(folder)
    assert code == 4 and checks["tokenizer.json"]["result"] == "holds"  # it reads
    assert "run/tokenizer.json: trained with the tokenizer char" in checks["step-6 tokenizer"]["detail"]
    assert checks["step-6 tokenizer"]["result"] == "fails"

    (folder / "tokenizer.json").write_bytes(old)
    other.save(folder / "checkpoints/step-4/tokenizer.json")
    seal(folder / "checkpoints/step-4")
    code, checks, _ = verify(folder)
    assert (
        code == 4
        and checks["step-4 tokenizer"]["result"] == "fails"
        and checks["step-6 tokenizer"]["result"] == "holds"
    )

    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    code, checks, _ = verify(folder)
    assert code == 4 and checks["tokenizer.json"]["result"] == "fails"


def test_checkpoint_of_another_format_is_reported(folder, verify):
    state = folder / "checkpoints/step-6/trainer.json"
    state.write_text(state.read_text(encoding="utf-8").replace('"format": 4', '"format": 1'), encoding="utf-8")
    seal(state.parent)
    code, checks, _ = verify(folder)
    assert code == 4 and "format 1; this nanotx reads 4" in checks["step-6 tokenizer"]["detail"]


def test_torn_last_line_is_reported_and_is_no_fault(folder, verify):
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as journal:
        journal.write('{"event": "st')
    code, checks, out = verify(folder)
    assert code == 0 and "its last line is incomplete; --resume removes it" in out
    assert others(checks) == {"holds"}


def harmed(lines, harm):
    at = next(index for index, line in enumerate(lines) if '"event": "step", "step": 3' in line)
    if harm == "torn":
        return [*lines[:at], lines[at][:9] + "\n", *lines[at + 1 :]]
    if harm == "lost":
        return [*lines[:at], *lines[at + 1 :]]
    if harm == "twice":
        return [*lines[: at + 1], *lines[at:]]
    if harm == "swapped":
        before = next(index for index, line in enumerate(lines) if '"event": "step", "step": 2' in line)
        return [*lines[:before], lines[at], *lines[before + 1 : at], lines[before], *lines[at + 1 :]]
    return lines[:at]


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        ("torn", r"line \d+ of \d+ is not a row; --resume removes it and keeps a copy of the file"),
        ("lost", r"line \d+: expected 'eval' of step 2, got that of step 3"),
        ("twice", r"line \d+: expected 'step' of step 4, got that of step 3"),
        ("swapped", r"line \d+: expected 'step' of step 2, got that of step 3"),
        ("cut", r"it ends at step 2, but there is a checkpoint of step 6"),
    ],
)
def test_incomplete_or_disordered_metrics_log_is_reported_by_its_line(folder, verify, harm, message):
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(harmed(lines, harm)), encoding="utf-8")
    code, checks, _ = verify(folder)
    assert code == 4 and checks["metrics.jsonl"]["result"] == "fails"
    assert re.search(message, checks["metrics.jsonl"]["detail"])


@pytest.mark.parametrize(("key", "value"), [("val_loss", 1.0), ("steps", 5), ("steps", 7), ("steps", "six")])
def test_figures_that_differ_from_the_metrics_log_are_reported(folder, verify, key, value):
    figures = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    (folder / "summary.json").write_text(json.dumps(figures | {key: value}), encoding="utf-8")
    code, checks, _ = verify(folder)
    assert code == 4 and checks["summary.json"]["result"] == "fails" and others(checks, "summary.json") == {"holds"}
    assert f"{'val_loss' if value == 5 else key}" in checks["summary.json"]["detail"]
    (folder / "summary.json").unlink()
    code, checks, _ = verify(folder)
    assert code == 0 and "summary.json" not in checks


def test_metrics_log_that_continues_after_a_stop_is_in_order(folder, verify):
    words = ["train", str(folder / "recipe.toml"), "--run", str(folder), "--resume", "--train.steps", "8"]
    assert run(words) == 0
    code, checks, _ = verify(folder)
    assert code == 0 and "8 steps, 3 evaluations" in checks["metrics.jsonl"]["detail"]


def recorded(folder, change):
    """Change the validation loss that is recorded of step 6, in the journal and in the figures."""
    figures = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    for row in rows:
        if row["event"] == "eval" and row["step"] == 6:
            figures["val_loss"] = row["val_loss"] = row["val_loss"] + change
    (folder / "summary.json").write_text(json.dumps(figures), encoding="utf-8")
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_recorded_loss_that_is_a_little_off_is_within_what_is_allowed_and_one_that_is_not_fails(folder, verify):
    recorded(folder, 1e-6)
    code, checks, out = verify(folder)
    assert code == 0 and not checks["validation loss"]["bit_equal"]
    assert "within 0.0001: the same device, dtype and threads, so another machine or version of torch" in out
    recorded(folder, 1e-2)
    code, checks, out = verify(folder)
    assert code == 4 and checks["validation loss"]["result"] == "fails"
    assert "apart, more than 0.0001, on cpu float32, 1 thread" in out


def test_in_other_numbers_the_loss_is_compared_within_more_and_that_is_said(sound, verify):
    code, checks, out = verify(sound, "--dtype", "bfloat16")
    loss = checks["validation loss"]
    assert code == 0 and not loss["bit_equal"] and not loss["same_settings"] and loss["tolerance"] == 1e-2
    assert "within 0.01: cpu bfloat16, 1 thread, and the run had cpu float32, 1 thread" in out


def test_check_that_cannot_be_made_does_not_pass(sound, folder, verify, monkeypatch):
    file = sound.parent / "text.txt"
    kept = file.read_bytes()
    try:
        file.unlink()
        code, checks, out = verify(folder)
        assert code == 4 and checks["validation loss"]["result"] == "not made"
        assert "there is no such file" in checks["validation loss"]["detail"] and "1 not made" in out
        assert others(checks, "validation loss") == {"holds"}
        text(file, size=901)
        code, checks, _ = verify(folder)
        assert code == 4 and "the run began with a corpus of SHA-256" in checks["validation loss"]["detail"]
        assert checks["validation loss"]["result"] == "not made"
    finally:
        file.write_bytes(kept)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    code, checks, _ = verify(folder, "--device", "cuda")
    assert code == 4 and "expected a CUDA GPU" in checks["validation loss"]["detail"]


def test_run_without_checkpoints_or_with_a_broken_recipe_is_not_sound(folder, verify):
    (folder / "recipe.toml").write_text("model = [", encoding="utf-8")
    code, checks, _ = verify(folder)
    assert code == 4 and checks["recipe.toml"]["result"] == "fails" and others(checks, "recipe.toml") == {"holds"}
    shutil.rmtree(folder / "checkpoints")
    code, checks, _ = verify(folder)
    assert code == 4 and "there is no checkpoint" in checks["checkpoints"]["detail"]
    (folder / "metrics.jsonl").unlink()
    code, checks, _ = verify(folder)
    assert "metrics.jsonl: cannot be read" in checks["metrics.jsonl"]["detail"]


def test_what_cannot_be_verified_is_refused_with_the_reason(folder, tmp_path):
    with pytest.raises(RunError, match=r"expected a run's folder, with a recipe\.toml in it"):
        run(["verify", str(tmp_path / "nowhere")])
    with pytest.raises(ConfigError, match=r"--jason: no such flag\. Did you mean '--json'"):
        run(["verify", str(folder), "--jason", "x"])
    with pytest.raises(ConfigError, match="threads: expected a number of at least 0"):
        run(["verify", str(folder), "--threads", "-1"])
    recipe = (folder / "recipe.toml").read_text(encoding="utf-8")
    (folder / "recipe.toml").write_text(recipe.replace('part = "rmsnorm"', 'part = "mine"'), encoding="utf-8")
    with pytest.raises(UnknownPart, match=r"no part named 'mine'.*imported by --load FILE\.py"):
        run(["verify", str(folder)])
