"""Signals: which end a run, which save it, and that none of them, nor two together, costs a step that was taken."""

import hashlib
import json
import random
import signal
import sys
import time
from pathlib import Path

import pytest
from helpers import Forked, finish, start, text, tiny

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork, and few signals")

SLOW = """
import time
from dataclasses import dataclass
from pathlib import Path
from torch import nn
from nanotx.nn.ffn import Ffn

@Ffn.register("slow")
@dataclass(frozen=True, kw_only=True)
class Slow(Ffn):
    seconds: float = 0.0  # of a forward pass, once there is a run: before, each part is tried alone
    build_seconds: float = 0.0  # before there is a module

    def build(self, dim: int) -> nn.Module:
        if self.build_seconds:
            Path("building").touch()
            time.sleep(self.build_seconds)
        return SlowModule(self, dim)

class SlowModule(nn.Module):
    def __init__(self, config: Slow, dim: int) -> None:
        super().__init__()
        self.config, self.inner = config, nn.Linear(dim, dim)

    def forward(self, x):
        if any(Path().glob("*/metrics.jsonl")):
            time.sleep(self.config.seconds)
        return self.inner(x)
"""


@pytest.fixture(autouse=True)
def hang_up_is_heard():
    """Under nohup SIGHUP is ignored, which children inherit; here they are to hear it."""
    before = signal.getsignal(signal.SIGHUP)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def train(tmp_path):
    """A function that starts a run in a process of its own."""
    text(tmp_path / "text.txt")
    (tmp_path / "slow.py").write_text(SLOW, encoding="utf-8")

    def start(*words, before=lambda: None, run="run", **flags):
        corpus = ["--corpus", "file", "--corpus.path", "text.txt", "--run", run]
        return Forked("train", "shakespeare_char", *corpus, *tiny(**flags), *words, cwd=tmp_path, before=before)

    return start


def wait(look, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.005)


LONG = {"train_steps": 60, "train_eval_every": 5, "train_sample_every": 6, "train_checkpoint_every": 7}
SLOWLY = ["--load", "slow.py", "--ffn", "slow", "--ffn.seconds"]


def checkpoints(run: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("step-")) for path in run.glob("checkpoints/step-*"))


def rows(run: Path, event: str) -> list[dict]:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if row["event"] == event]


def weights(run: Path, step: int) -> str:
    return hashlib.sha256((run / f"checkpoints/step-{step}/model.safetensors").read_bytes()).hexdigest()


def same_runs(first: Path, other: Path, last: int) -> None:
    """Steps, evaluations, samples and weights of two runs are equal to the bit."""
    times = {"wall_seconds", "tokens_per_second"}
    for event in ("step", "eval", "sample"):
        mine, theirs = (
            [{key: item for key, item in row.items() if key not in times} for row in rows(run, event)]
            for run in (first, other)
        )
        assert mine == theirs
    assert weights(first, last) == weights(other, last)
    assert (first / "samples.txt").read_bytes() == (other / "samples.txt").read_bytes()


@pytest.mark.parametrize(
    ("names", "checkpoint_every"),
    [("TERM HUP", 7), ("HUP TERM", 1), ("INT TERM INT", 7), ("TERM TERM HUP INT", 1), ("XCPU XCPU TERM", 7)],
)
def test_signals_that_come_together_end_a_run_that_has_saved_its_last_step(train, tmp_path, names, checkpoint_every):
    draw, numbers = (
        random.Random(f"{names} {checkpoint_every}"),
        [signal.Signals[f"SIG{item}"] for item in names.split()],
    )
    child = train(**LONG | {"train_steps": 10**6, "train_checkpoint_every": checkpoint_every})
    child.until((tmp_path / "run/metrics.jsonl").exists)
    time.sleep(draw.uniform(0, 0.4))
    for number in numbers:
        child.send(number)
        time.sleep(draw.choice([0.0, 0.001, 0.01]))
    code, output = child.finish()
    assert code in {128 + number for number in numbers}, output
    done = [row["step"] for row in rows(tmp_path / "run", "step")]
    assert max(done, default=0) == max(checkpoints(tmp_path / "run"), default=0)
    assert "nanotx resume run" in output.splitlines()[-2:]


@pytest.mark.slow
def test_run_stopped_repeatedly_at_any_moment_ends_in_the_same_bits(train, tmp_path):
    assert train(run="whole", **LONG).finish()[0] == 0
    draw = random.Random(3)
    for attempt in range(5):
        child = train(*["--resume"] * bool(attempt), **LONG)
        child.until(lambda child=child: "on text.txt" in child.text())
        time.sleep(draw.uniform(0, 0.3))
        child.send(*draw.sample([signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR1], 2))
        output = child.finish()[1]
        done = [row["step"] for row in rows(tmp_path / "run", "step")]
        assert max(done, default=0) == max(checkpoints(tmp_path / "run"), default=0), output
    assert train("--resume", **LONG).finish()[0] == 0
    same_runs(tmp_path / "run", tmp_path / "whole", last=60)


def test_only_a_second_ctrl_c_half_a_second_later_ends_at_once(train, tmp_path):
    child = train(*SLOWLY, "50", train_steps=10**6)
    child.until((tmp_path / "run/metrics.jsonl").exists)
    time.sleep(0.2)  # in the first step, which takes so many seconds
    child.send(signal.SIGINT, signal.SIGINT, signal.SIGTERM)
    time.sleep(0.2)
    child.send(signal.SIGINT, signal.SIGHUP)
    time.sleep(0.5)
    child.until(lambda: True)  # it is still there
    began = time.monotonic()
    child.send(signal.SIGINT)
    assert child.finish()[0] == 130
    assert time.monotonic() - began < 25  # however busy the machine is; the step would take twice as long


def test_signal_of_another_kind_never_ends_at_once(train, tmp_path):
    child = train(*SLOWLY, "1.5", train_steps=10**6, train_checkpoint_every=0)
    child.until((tmp_path / "run/metrics.jsonl").exists)
    child.send(signal.SIGTERM)
    time.sleep(0.6)
    child.send(signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    assert child.finish()[0] == 143
    assert len(rows(tmp_path / "run", "step")) == max(checkpoints(tmp_path / "run"), default=0)


@pytest.mark.parametrize("name", ["SIGUSR1", "SIGUSR2"])
def test_signal_of_a_batch_system_saves_and_the_run_continues(train, tmp_path, name):
    flags = LONG | {"train_checkpoint_every": 0, "train_eval_every": 0, "train_sample_every": 0, "train_steps": 60}
    child = train(**flags)
    child.until(lambda: (tmp_path / "run/metrics.jsonl").exists() and rows(tmp_path / "run", "step"))
    child.send(signal.Signals[name])
    child.until(lambda: checkpoints(tmp_path / "run"))
    saved = checkpoints(tmp_path / "run")[0]
    code, output = child.finish()
    assert code == 0 and saved < 60, output
    assert train(run="whole", **flags).finish()[0] == 0
    same_runs(tmp_path / "run", tmp_path / "whole", last=60)


def test_save_asked_for_during_a_long_sample_does_not_wait_for_its_end(train, tmp_path):
    flags = {"train_steps": 4, "train_checkpoint_every": 0, "train_eval_every": 0, "train_sample_every": 2}
    words = [*SLOWLY, "0.03"]
    assert train(*words, run="whole", **flags, train_sample_tokens=30).finish()[0] == 0
    child = train(*words, **flags, train_sample_tokens=30)
    child.until(lambda: (tmp_path / "run/metrics.jsonl").exists() and len(rows(tmp_path / "run", "step")) == 2)
    time.sleep(0.3)
    child.send(signal.SIGUSR1)
    child.until(lambda: checkpoints(tmp_path / "run"))
    assert checkpoints(tmp_path / "run") == [2] and not rows(tmp_path / "run", "sample")
    assert child.finish()[0] == 0
    same_runs(tmp_path / "run", tmp_path / "whole", last=4)


@pytest.mark.parametrize(("soft", "hard"), [(2, -1), (3, 3)])
def test_limit_of_processor_time_saves_and_stops(train, tmp_path, soft, hard):
    def limited():
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))

    child = train(before=limited, **LONG | {"train_steps": 10**6, "train_checkpoint_every": 0})
    code, output = child.finish()
    assert code == 128 + signal.SIGXCPU, output
    assert rows(tmp_path / "run", "step")[-1]["step"] == checkpoints(tmp_path / "run")[-1]


def test_signal_before_anything_is_written_ends_at_once_and_leaves_nothing(train, tmp_path):
    child = train(*SLOWLY, "0", "--ffn.build-seconds", "30")
    child.until((tmp_path / "building").exists)
    child.send(signal.SIGTERM, signal.SIGHUP)
    began = time.monotonic()
    code, output = child.finish()
    assert code in (129, 143) and time.monotonic() - began < 10
    assert not (tmp_path / "run").exists()
    assert "stopped before anything was changed" in output and "Traceback" not in output


def test_signal_during_a_resume_leaves_the_run_as_it_was(train, tmp_path):
    words, slower = [*SLOWLY, "0"], ["--ffn.build-seconds", "0.5", "--resume", "--allow-mismatch"]
    assert train(*words, train_steps=4, train_checkpoint_every=2).finish()[0] == 0

    def files():
        return {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}

    before = files()
    child = train(*words, *slower, train_steps=8, train_checkpoint_every=2)
    child.until((tmp_path / "building").exists)
    child.send(signal.SIGHUP)
    assert child.finish()[0] == 129
    assert files() == before
    child = train(*words, *slower, train_steps=8, train_checkpoint_every=2)
    assert child.finish()[0] == 0
    assert checkpoints(tmp_path / "run")[-1] == 8


SLOW_EXIT = """
import atexit
import time
from pathlib import Path

def leave():
    Path("leaving").touch()
    time.sleep(0.5)

atexit.register(leave)
"""


@pytest.mark.parametrize(("first", "late", "code"), [("TERM", "HUP TERM INT USR1", 143), (None, "USR1 USR2", 0)])
def test_signal_after_everything_is_saved_does_not_change_the_exit_code(tmp_path, first, late, code):
    text(tmp_path / "text.txt")
    (tmp_path / "slow_exit.py").write_text(SLOW_EXIT, encoding="utf-8")
    corpus = ["--corpus", "file", "--corpus.path", "text.txt", "--run", "run", "--load", "slow_exit.py"]
    flags = tiny(train_steps=10**6 if first else 2)
    child = start("train", "shakespeare_char", *corpus, *flags, cwd=tmp_path)
    if first:
        wait((tmp_path / "run/metrics.jsonl").exists)
        child.send_signal(signal.Signals[f"SIG{first}"])
    wait((tmp_path / "leaving").exists)
    for name in late.split():
        child.send_signal(signal.Signals[f"SIG{name}"])
    assert finish(child)[0] == code


def test_run_from_python_restores_the_signal_handlers(tmp_path, monkeypatch):
    from nanotx.cli.main import run

    monkeypatch.chdir(tmp_path)
    text(tmp_path / "text.txt")
    names = ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"]
    before = [signal.getsignal(signal.Signals[name]) for name in names]
    corpus = ["--corpus", "file", "--corpus.path", "text.txt", "--run", "run"]
    assert run(["train", "shakespeare_char", *corpus, *tiny()]) == 0
    assert [signal.getsignal(signal.Signals[name]) for name in names] == before


def test_command_in_a_process_that_continues_restores_the_signal_handlers(tmp_path, monkeypatch):
    from nanotx.cli.entry import run_and_exit
    from nanotx.cli.main import run

    monkeypatch.chdir(tmp_path)
    text(tmp_path / "text.txt")
    corpus = ["--corpus", "file", "--corpus.path", "text.txt"]
    with pytest.raises(SystemExit) as ended:
        run_and_exit(lambda: run(["sample", "nowhere"]))
    assert ended.value.code == 4
    before = signal.getsignal(signal.SIGUSR1)
    assert run(["train", "shakespeare_char", *corpus, *tiny(), "--run", "run"]) == 0
    assert signal.getsignal(signal.SIGUSR1) == before


def test_signal_that_is_ignored_stays_ignored(train, tmp_path):
    def nohup():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    child = train(before=nohup, **LONG)
    child.until((tmp_path / "run/metrics.jsonl").exists)
    child.send(signal.SIGHUP, signal.SIGHUP)
    assert child.finish()[0] == 0
