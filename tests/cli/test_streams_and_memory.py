"""Standard streams that are closed or full, and memory that cannot be had: a message, no traceback, nothing lost."""

import json
import subprocess
import sys

import pytest
from helpers import text, tiny

from nanotx.cli.main import run as nanotx
from nanotx.errors import RunError
from nanotx.nn.ffn import Ffn

PART = """
import os
from dataclasses import dataclass
import torch
from torch import nn
from nanotx.nn.ffn import Ffn
from nanotx.nn.hooks import OnStepModule

@Ffn.register("greedy")
@dataclass(frozen=True, kw_only=True)
class Greedy(Ffn):
    def build(self, dim: int) -> nn.Module:
        if os.environ.get("GREEDY") == "build":
            torch.empty(2**55)
        return GreedyModule(dim)

class GreedyModule(OnStepModule):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.inner, self.step = nn.Linear(dim, dim), 0

    def on_step(self, step: int, steps: int) -> None:
        self.step = step

    def forward(self, x):
        if self.training and os.environ.get("GREEDY") == str(self.step):
            torch.empty(2**55)
        return self.inner(x)
"""


@pytest.fixture
def train(tmp_path, monkeypatch):
    """A function that trains in a folder of its own; returns the exit code."""
    monkeypatch.chdir(tmp_path)
    text(tmp_path / "text.txt")
    (tmp_path / "greedy.py").write_text(PART, encoding="utf-8")

    def start(*words, run="run", **flags):
        corpus = ["--corpus", "file", "--corpus.path", "text.txt", "--run", run, "--load", "greedy.py"]
        return nanotx(["train", "shakespeare_char", *corpus, "--ffn", "greedy", *tiny(**flags), *words])

    yield start
    Ffn.registered.pop("greedy", None)  # the part of a test is that test's alone


def steps(run):
    rows = map(json.loads, (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return [(row["step"], row["loss"]) for row in rows if row["event"] == "step"]


def test_step_that_does_not_fit_into_memory_saves_those_before_it(train, tmp_path, monkeypatch):
    assert train(run="whole") == 0
    monkeypatch.setenv("GREEDY", "5")
    with pytest.raises(
        RunError, match=r"step 5: memory is full with 2 .*--train\.micro-batch-size 1 .* is of step 5"
    ) as caught:
        train(train_checkpoint_every=0)
    assert caught.value.exit_code == 4
    assert [path.name for path in (tmp_path / "run/checkpoints").glob("step-*")] == ["step-5"]
    monkeypatch.delenv("GREEDY")
    assert train("--resume") == 0
    assert steps(tmp_path / "run") == steps(tmp_path / "whole")
    first, other = (tmp_path / run / "checkpoints/step-6/model.safetensors" for run in ("run", "whole"))
    assert first.read_bytes() == other.read_bytes()


def test_model_that_does_not_fit_into_memory_is_a_message_and_leaves_nothing(train, tmp_path, monkeypatch):
    monkeypatch.setenv("GREEDY", "build")
    with pytest.raises(RunError, match=r"memory is full: .*smaller --train\.batch-size") as caught:
        train()
    assert caught.value.exit_code == 4 and not (tmp_path / "run").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="a shell of POSIX closes them")
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-", ">/dev/full 2>/dev/full"])
def test_run_trains_with_any_of_its_streams_closed_or_full(tmp_path, closed):
    text(tmp_path / "text.txt")
    words = ["train", "shakespeare_char", "--corpus", "file", "--corpus.path", "text.txt", "--run", "run", *tiny()]
    done = subprocess.run(
        ["bash", "-c", f"exec {sys.executable} -m nanotx {' '.join(words)} {closed}"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and "Traceback" not in done.stderr + done.stdout, done.stderr
    assert json.loads((tmp_path / "run/summary.json").read_text(encoding="utf-8"))["complete"]
    assert [step for step, _ in steps(tmp_path / "run")] == [1, 2, 3, 4, 5, 6]
    for file in (tmp_path / "run").rglob("*.json*"):
        assert b"validation loss" not in file.read_bytes()  # what was printed went into no file of the run
