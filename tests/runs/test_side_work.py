"""What goes wrong in a sample or an evaluation costs no step: the checkpoint comes first, and the run continues."""

import json
import sys
from pathlib import Path

import pytest
from helpers import Forked, text, tiny

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")

PANICS = '''
import json, os, signal, time
from dataclasses import dataclass
from pathlib import Path
from torch import nn
from nanotx.nn.ffn import Ffn

class PanicException(BaseException):
    """As pyo3 raises it: no Exception."""

@Ffn.register("panics")
@dataclass(frozen=True, kw_only=True)
class Panics(Ffn):
    def build(self, dim: int) -> nn.Module:
        return PanicsModule(dim)

class PanicsModule(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.inner = nn.Linear(dim, dim)

    def forward(self, x):
        now = "training" if self.training else "sample" if x.shape[:2] == (1, 1) else "evaluation"
        how, where, step = os.environ.get("HOW", ""), os.environ.get("WHERE", ""), os.environ.get("STEP", "")
        log = Path("run/metrics.jsonl")
        rows = [json.loads(line) for line in log.read_text().splitlines()] if how and log.exists() else []
        taken = max((row["step"] for row in rows if row["event"] == "step"), default=0)
        if taken and now == where and step in ("", str(taken)):
            deadline = time.monotonic() + 60
            while os.environ.get("WAITS") and not Path(f"run/checkpoints/step-{taken}").exists():
                if time.monotonic() > deadline:
                    os._exit(99)
                time.sleep(0.01)
            if how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            kinds = {"panic": PanicException, "exit": SystemExit, "memory": MemoryError, "bug": KeyError}
            raise kinds[how]("an empty piece")
        return self.inner(x)
'''


@pytest.fixture
def train(tmp_path):
    """A function that runs to the end, with something going wrong somewhere; returns exit code and output."""
    text(tmp_path / "text.txt")
    (tmp_path / "panics.py").write_text(PANICS, encoding="utf-8")

    def start(*words, how="", where="", step="", waits="", run="run", **flags):
        def before():
            import os

            os.environ.update(HOW=how, WHERE=where, STEP=step, WAITS=waits)

        corpus = [
            "--corpus",
            "file",
            "--corpus.path",
            "text.txt",
            "--run",
            run,
            "--load",
            "panics.py",
            "--ffn",
            "panics",
        ]
        flags = {"train_eval_every": 2, "train_sample_every": 2, "train_sample_tokens": 6} | flags
        child = Forked("train", "shakespeare_char", *corpus, *tiny(**flags), *words, cwd=tmp_path, before=before)
        return child.finish()

    return start


def rows(run: Path, event: str) -> list[dict]:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    times = {"wall_seconds", "tokens_per_second"}
    figures = [row for row in map(json.loads, lines) if row["event"] == event]
    return [{key: item for key, item in row.items() if key not in times} for row in figures]


def weights(run: Path, step: int) -> bytes:
    return (run / f"checkpoints/step-{step}/model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("how", "name"), [("panic", "PanicException"), ("exit", "SystemExit"), ("memory", "MemoryError")]
)
def test_sample_that_fails_in_any_way_is_a_warning_and_costs_nothing(train, tmp_path, how, name):
    assert train(run="whole")[0] == 0
    code, message = train(how=how, where="sample")
    assert code == 0, message
    warnings = [row["text"] for row in rows(tmp_path / "run", "warning")]
    assert len(warnings) == 3 and all(f"the sample failed: {name}: " in warning for warning in warnings)
    assert "Training continues" in message and "panics.py" in message
    for event in ("step", "eval"):
        assert rows(tmp_path / "run", event) == rows(tmp_path / "whole", event)
    assert weights(tmp_path / "run", 6) == weights(tmp_path / "whole", 6)
    assert not rows(tmp_path / "run", "sample")


def test_evaluation_that_fails_is_a_warning_and_the_run_is_complete(train, tmp_path):
    assert train(run="whole")[0] == 0
    code, message = train(how="bug", where="evaluation")
    assert code == 0, message
    assert [row["step"] for row in rows(tmp_path / "run", "warning")] == [2, 4, 6]
    assert rows(tmp_path / "run", "step") == rows(tmp_path / "whole", "step")
    assert rows(tmp_path / "run", "sample") == rows(tmp_path / "whole", "sample")
    summary = json.loads((tmp_path / "run/summary.json").read_text(encoding="utf-8"))
    assert summary["complete"] and summary["val_loss"] is None
    code, message = train("--resume")
    assert code == 0 and "complete at step 6; nothing is left to do" in message


@pytest.mark.parametrize("where", ["sample", "evaluation"])
def test_checkpoint_is_published_during_the_evaluation_or_the_sample_of_its_step(train, tmp_path, where):
    """The evaluation waits until it is, and the checkpoint records that the evaluation is still to come."""
    code, message = train(how="bug", where=where, waits="yes")
    assert code == 0, message
    assert [row["step"] for row in rows(tmp_path / "run", "warning")] == [2, 4, 6]
    state = json.loads((tmp_path / "run/checkpoints/step-6/trainer.json").read_text(encoding="utf-8"))
    assert state["progress"]["eval_pending"] and state["progress"]["step"] == 6


@pytest.mark.parametrize("waits", ["yes", ""], ids=["published", "under_way"])
@pytest.mark.parametrize("where", ["sample", "evaluation"])
@pytest.mark.parametrize("step", ["4", "6"])
def test_process_that_dies_during_an_evaluation_or_sample_resumes_and_makes_up_for_it(
    train, tmp_path, where, step, waits
):
    """From the checkpoint of that step, where it was published; else from the one before."""
    assert train(run="whole")[0] == 0
    assert train(how="kill", where=where, step=step, waits=waits)[0] == -9
    done = rows(tmp_path / "run", "step")[-1]["step"]
    newest = max(int(path.name[5:]) for path in (tmp_path / "run/checkpoints").glob("step-*"))
    assert done == int(step) and newest in ({done} if waits else {done, done - 2})
    code, message = train("--resume")
    assert code == 0, message
    for event in ("step", "eval", "sample"):
        assert rows(tmp_path / "run", event) == rows(tmp_path / "whole", event)
    for name in ("samples.txt", "checkpoints/step-6/model.safetensors", "checkpoints/step-6/optimizer.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    summaries = [
        json.loads((tmp_path / name / "summary.json").read_text(encoding="utf-8")) for name in ("run", "whole")
    ]
    for key in ("complete", "val_loss", "best_step", "best_val_loss", "steps"):
        assert summaries[0][key] == summaries[1][key]


def test_run_is_complete_though_the_evaluation_was_pending_in_its_last_checkpoint(train, tmp_path):
    assert train()[0] == 0
    code, message = train("--resume")
    assert code == 0 and "nothing is left to do" in message and "validation loss" in message
    assert len(rows(tmp_path / "run", "eval")) == 3
    (tmp_path / "run/summary.json").unlink()  # a kill came before it was written
    before = rows(tmp_path / "run", "eval")
    code, message = train("--resume")
    assert code == 0 and rows(tmp_path / "run", "eval") == before
    assert json.loads((tmp_path / "run/summary.json").read_text(encoding="utf-8"))["complete"]


def test_extended_run_equals_the_run_that_was_longer_from_the_start(train, tmp_path):
    schedule = ["--schedule", "constant", "--embedding", "tokens"]  # neither hangs on the number of steps
    assert train(*schedule, run="whole", train_steps=10)[0] == 0
    assert train(*schedule)[0] == 0
    assert train(*schedule, "--resume", train_steps=10)[0] == 0
    for event in ("step", "eval", "sample"):
        assert rows(tmp_path / "run", event) == rows(tmp_path / "whole", event)
    assert weights(tmp_path / "run", 10) == weights(tmp_path / "whole", 10)


def test_two_newest_checkpoints_and_the_best_are_kept_at_the_end(train, tmp_path):
    assert train(train_steps=12, train_checkpoint_every=2)[0] == 0
    best = json.loads((tmp_path / "run/summary.json").read_text(encoding="utf-8"))["best_step"]
    kept = {int(path.name[5:]) for path in (tmp_path / "run/checkpoints").glob("step-*")}
    assert kept == {10, 12, best}
