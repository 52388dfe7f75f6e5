"""Numbers that are no numbers: skipped steps are counted, a run of them ends, and nothing is silent about NaN."""

import hashlib
import json

import pytest
from helpers import text, tiny
from safetensors.torch import load_file, save_file

from nanotx.cli.main import run as nanotx
from nanotx.errors import Diverged, RunError
from nanotx.nn.ffn import Ffn

PART = """
from dataclasses import dataclass
from torch import nn
from nanotx.nn.ffn import Ffn
from nanotx.nn.hooks import OnStepModule

@Ffn.register("wild")
@dataclass(frozen=True, kw_only=True)
class Wild(Ffn):
    def build(self, dim: int) -> nn.Module:
        return WildModule(dim)

class WildModule(OnStepModule):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.inner, self.step = nn.Linear(dim, dim), 0

    def on_step(self, step: int, steps: int) -> None:
        self.step = step

    def forward(self, x):
        return self.inner(x) * (float("nan") if self.step >= 1 else 1.0)
"""
WILD = ["--load", "wild.py", "--ffn", "wild", "--train.on-nonfinite", "skip"]
"""After the first step every loss is NaN, and the weights are finite."""


@pytest.fixture
def train(tmp_path, monkeypatch):
    """A function that trains in a folder of its own; returns the exit code."""
    monkeypatch.chdir(tmp_path)
    text(tmp_path / "text.txt")
    (tmp_path / "wild.py").write_text(PART, encoding="utf-8")

    def start(*words, run="run", **flags):
        corpus = ["--corpus", "file", "--corpus.path", "text.txt", "--run", run]
        return nanotx(["train", "shakespeare_char", *corpus, *tiny(**flags), *words])

    yield start
    Ffn.registered.pop("wild", None)  # the part of a test is that test's alone


def test_skipped_steps_are_counted_printed_and_in_the_summary_also_after_a_resume(train, tmp_path, capsys):
    assert train(*WILD, train_steps=4) == 0
    assert "3 of 4 steps were skipped" in capsys.readouterr().out
    assert train(*WILD, "--resume", train_steps=7) == 0
    assert "6 of 7 steps were skipped" in capsys.readouterr().out
    summary = json.loads((tmp_path / "run/summary.json").read_text(encoding="utf-8"))
    assert summary["skipped_steps"] == 6 and summary["complete"] and summary["val_loss"] is None


def test_run_that_skips_ten_steps_in_a_row_has_diverged_even_across_a_resume(train, tmp_path):
    with pytest.raises(Diverged, match=r"step 10: the loss is nan .* Steps skipped in a row: 10") as caught:
        train(*WILD, train_steps=20, train_checkpoint_every=4)
    assert caught.value.exit_code == 5
    with pytest.raises(Diverged, match=r"step 10: .* Steps skipped in a row: 10"):
        train(*WILD, "--resume", train_steps=20, train_checkpoint_every=4)


def test_good_step_ends_a_sequence_of_skipped_steps(train, tmp_path, capsys):
    now_and_then = PART.replace("self.step >= 1", "self.step % 2")
    (tmp_path / "wild.py").write_text(now_and_then, encoding="utf-8")
    assert train(*WILD, train_steps=26) == 0
    assert "13 of 26 steps were skipped" in capsys.readouterr().out


def test_run_that_skips_nothing_says_so_only_in_its_summary(train, tmp_path, capsys):
    assert train("--train.on-nonfinite", "skip") == 0
    assert "skipped" not in capsys.readouterr().out
    assert json.loads((tmp_path / "run/summary.json").read_text(encoding="utf-8"))["skipped_steps"] == 0


def test_run_is_shown_after_an_evaluation_that_was_nan(train, tmp_path, capsys):
    assert train(*WILD) == 0
    assert "validation loss nan" in capsys.readouterr().out
    for words in (["show", "run"], ["show", "run", "--plot", "run.svg"]):
        assert nanotx(words) == 0
    assert "nan" in capsys.readouterr().out
    assert train(*WILD, "--resume") == 0  # it is complete, and says so
    assert train(*WILD, "--resume", train_steps=8) == 0


def poison(run, value, file="model.safetensors", step=6):
    """Put a number into the weights of a checkpoint, and sign it: all digests are right."""
    path = run / f"checkpoints/step-{step}"
    tensors = load_file(path / file)
    name = next(name for name, tensor in tensors.items() if tensor.ndim == 2)
    tensors[name][0, 0] = value
    save_file(tensors, path / file, metadata={"format": "pt"})
    manifest = json.loads((path / "MANIFEST.json").read_text(encoding="utf-8"))
    data = (path / file).read_bytes()
    manifest[file] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (path / "MANIFEST.json").write_text(json.dumps(manifest), encoding="utf-8")
    return name


@pytest.mark.parametrize(
    ("value", "file", "words"),
    [
        (float("nan"), "model.safetensors", []),
        (float("-inf"), "model.safetensors", []),
        (float("nan"), "ema.safetensors", ["--train.ema-decay", "0.9"]),
        (float("inf"), "ema.safetensors", ["--train.ema-decay", "0.9"]),
    ],
)
def test_weights_that_are_nan_with_right_digests_are_reported_by_every_command(
    train, tmp_path, capsys, value, file, words
):
    assert train(*words) == 0
    name = poison(tmp_path / "run", value, file)
    for command in (["sample", "run"], ["eval", "run"], ["train", "run/recipe.toml", "--run", "run", "--resume"]):
        with pytest.raises(RunError, match=rf"step-6/{file}: the weights of {name} are not finite: 1 of .*--step"):
            nanotx(command)
    capsys.readouterr()
    assert nanotx(["verify", "run"]) == 4
    assert f"the weights of {name} are not finite" in " ".join(capsys.readouterr().out.split())
    assert nanotx(["sample", "run", "--step", "4", "--max-new-tokens", "3"]) == 0
