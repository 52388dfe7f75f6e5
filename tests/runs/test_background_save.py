"""Checkpoints that a thread writes while steps are taken: the same files, none lost, and no error swallowed."""

import gc
import json
import threading
import time
import weakref
from pathlib import Path

import pytest
import torch
from helpers import text, tiny_command

import nanotx.runs.checkpoint_writer
from nanotx import disk
from nanotx.cli.main import run as nanotx_command
from nanotx.data.corpus.playhouse import Playhouse
from nanotx.errors import Diverged, MemoryFull, RunError
from nanotx.hardware import memory
from nanotx.hardware.cgroup import MemoryInfo
from nanotx.hardware.device import choose_machine
from nanotx.nn.attention.per_head import PerHead
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.ffn.moe import MixtureOfExperts
from nanotx.nn.transformer import Model
from nanotx.optim import Optimizer
from nanotx.recipe import Recipe, Train
from nanotx.runs import checkpoint, valid
from nanotx.runs.trainer_state import contents
from nanotx.training.dataset import load_dataset
from nanotx.training.saving import BackgroundSave
from nanotx.training.trainer import Trainer

PATIENCE = 60.0
"""Seconds after which a thread that waits for another one is a failure."""


@pytest.fixture
def train(tmp_path, monkeypatch):
    """A function that trains in a folder of its own, and returns the run's folder."""
    monkeypatch.chdir(tmp_path)
    text(tmp_path / "text.txt")

    def start(*words, run="run", **flags):
        assert nanotx_command(tiny_command(*words, run=run, **flags)) == 0
        return tmp_path / run

    return start


def rows(run: Path, event: str = "") -> list[dict]:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if event in ("", row["event"])]


def files(run: Path, step: int) -> dict[str, bytes]:
    """The files of a checkpoint, without the times that one of them holds."""
    path = run / f"checkpoints/step-{step}"
    assert valid.verify(path)
    named = {file.name: file.read_bytes() for file in path.iterdir() if file.name != "MANIFEST.json"}
    state = json.loads(named["trainer.json"])
    for time_of in ("train_seconds", "earlier_seconds"):
        del state["progress"][time_of]
    state["progress"]["scores"].pop("wall_seconds", None)
    return named | {"trainer.json": json.dumps(state).encode()}


def before_making(monkeypatch, step, call):
    """Call a function in the thread that begins to write the checkpoint of a step."""
    make = disk.make

    def outer(folder):
        if folder.name.startswith(f".step-{step}."):
            call()
        make(folder)

    monkeypatch.setattr(disk, "make", outer)


def until_step(run: Path, step: int):
    """A function that returns when the row of a step is written."""

    def wait():
        deadline = time.monotonic() + PATIENCE
        while not any(row["step"] >= step for row in rows(run, "step")):
            assert time.monotonic() < deadline, "no step is taken while a checkpoint is written"
            time.sleep(0.005)

    return wait


FLAGS = {"train_steps": 8, "train_checkpoint_every": 4}
EMA = ["--train.ema-decay", "0.9"]


def test_checkpoint_written_during_later_steps_has_the_bytes_of_one_that_is_waited_for(
    train, tmp_path, monkeypatch, capsys
):
    with monkeypatch.context() as small:
        small.setattr(nanotx.runs.checkpoint_writer, "leaves_as_much", lambda size: False)
        waited = train(*EMA, run="waited", **FLAGS)
    (warning,) = rows(waited, "warning")
    assert warning["step"] == 4 and "training waits for each checkpoint" in warning["text"]
    assert "training waits for each checkpoint" in capsys.readouterr().out
    before_making(monkeypatch, 4, until_step(tmp_path / "beside", 7))
    beside = train(*EMA, run="beside", **FLAGS)
    assert not rows(beside, "warning")
    events = [(row["event"], row["step"]) for row in rows(beside)]
    assert events.index(("checkpoint", 4)) > events.index(("step", 7))
    for step in (4, 8):
        assert files(beside, step) == files(waited, step)


def test_late_row_of_a_checkpoint_verifies_and_any_other_row_out_of_order_does_not(
    train, tmp_path, monkeypatch, capsys
):
    before_making(monkeypatch, 4, until_step(tmp_path / "run", 7))
    run = train(**FLAGS)
    assert nanotx_command(["verify", str(run)]) == 0
    log = run / "metrics.jsonl"
    lines = log.read_text(encoding="utf-8").splitlines()
    at = next(number for number, line in enumerate(lines) if json.loads(line) == {"event": "checkpoint", "step": 4})
    for row in (
        {"event": "checkpoint", "step": 1},  # not after the one before
        {"event": "checkpoint", "step": 9},  # not yet taken
        {"event": "warning", "step": 4, "text": "about another step"},
        {"event": "sample", "step": 4, "text": "late"},
    ):
        log.write_text("\n".join([*lines[:at], json.dumps(row), *lines[at + 1 :], ""]), encoding="utf-8")
        capsys.readouterr()
        assert nanotx_command(["verify", str(run)]) == 4
        assert f"line {at + 1}: expected {row['event']!r} of step" in capsys.readouterr().out


def test_copy_that_is_none_is_caught(train, tmp_path, monkeypatch):
    whole = train(run="whole", **FLAGS)
    monkeypatch.setattr(checkpoint, "copied", lambda contents, live: contents)
    before_making(monkeypatch, 4, until_step(tmp_path / "aliased", 8))
    aliased = train(run="aliased", **FLAGS)
    assert files(aliased, 4)["model.safetensors"] != files(whole, 4)["model.safetensors"]
    assert files(aliased, 8) == files(whole, 8)


TEXTS = load_dataset(Recipe(corpus=Playhouse(size=20_000), model=Model(context=16)))


LAYOUTS = {"": PreNorm(), "of their own": PreNorm(attention=PerHead(heads=2), ffn=MixtureOfExperts(hidden_dim=8))}


def tensors(of):
    """The tensors of a checkpoint's contents, by file and name."""
    named = {file: content for file, content in of.files.items() if not isinstance(content, str)}
    return {(file, key): tensor for file, content in named.items() for key, tensor in content.items()}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", Optimizer.names())
def test_no_tensor_of_a_copy_moves_when_steps_are_taken(name, layout):
    recipe = Recipe(
        corpus=Playhouse(size=20_000),
        model=Model(dim=16, layers=1, context=16, block=LAYOUTS[layout]),
        optimizer=Optimizer.find(name)(),
        train=Train(steps=9, batch_size=2, ema_decay=0.9),
        compile=False,
    )
    model = recipe.model.build(TEXTS.codec.vocab_size, recipe.seed)
    trainer = Trainer(recipe, model, TEXTS.windows, choose_machine("cpu", "float32", 1))
    trainer.train_step()
    now = contents(trainer, TEXTS)
    copy = now.copied()
    assert (now.copy_nbytes < now.nbytes) == bool(layout)  # what is put into the canonical layout is new already
    saved = {key: tensor.clone() for key, tensor in tensors(now).items()}
    trainer.train_step()
    assert {file for file, _ in saved} >= {"model.safetensors", "optimizer.safetensors", "ema.safetensors"}
    assert any(not torch.equal(tensor, saved[key]) for key, tensor in tensors(now).items())
    for key, tensor in tensors(copy).items():
        assert torch.equal(tensor, saved[key]) and tensor.is_contiguous(), key
    assert copy.nbytes == now.nbytes == sum(tensor.nbytes for tensor in saved.values())


def test_one_checkpoint_at_a_time_is_written_and_each_is_published_in_order(train, monkeypatch):
    active, published, write_atomic = [], [], checkpoint.write_atomic

    def slow(folder, *rest):
        active.append(threading.current_thread())
        assert len(active) == 1
        time.sleep(0.05)
        write_atomic(folder, *rest)
        published.append(folder.name)
        active.pop()

    monkeypatch.setattr(checkpoint, "write_atomic", slow)
    run = train(train_steps=5, train_checkpoint_every=1)
    assert published == [f"step-{step}" for step in range(1, 6)]
    assert [row["step"] for row in rows(run, "checkpoint")] == [1, 2, 3, 4, 5]


def test_first_checkpoint_is_waited_for_and_so_is_the_last(train, monkeypatch):
    steps_at = {}
    for step in (1, 8):
        before_making(monkeypatch, step, lambda step=step: (time.sleep(0.3), steps_at.update({step: time.monotonic()})))
    run = train(**FLAGS)
    assert sorted(steps_at) == [1, 8]
    events = [(row["event"], row["step"]) for row in rows(run)]
    assert events.index(("checkpoint", 1)) == events.index(("step", 1)) + 1
    assert events.index(("checkpoint", 8)) < events.index(("end", 8))
    assert files(run, 8)


@pytest.mark.parametrize(
    ("raised", "expected", "match"),
    [
        (MemoryError("no memory is left"), MemoryFull, "memory is full: no memory is left"),
        (ValueError("a bug"), ValueError, "a bug"),
    ],
)
def test_error_that_is_no_refusal_of_the_disk_ends_the_run_as_it_is(train, monkeypatch, raised, expected, match):
    def fails():
        raise raised

    before_making(monkeypatch, 4, fails)
    with pytest.raises(expected, match=match):
        train(**FLAGS)


def test_checkpoint_that_is_refused_during_later_steps_is_reported_with_its_own_step(train, tmp_path, monkeypatch):
    def refuses():
        until_step(tmp_path / "run", 6)()
        raise OSError(28, "No space left on device")

    before_making(monkeypatch, 4, refuses)
    run = train(**FLAGS)
    (warning,) = rows(run, "warning")
    assert nanotx_command(["verify", str(run)]) == 0
    assert warning["step"] == 4 and warning["text"].startswith("step 4: run/checkpoints/step-4: the checkpoint cannot")
    assert sorted(checkpoint.steps(run / "checkpoints")) == [1, 8]


def test_step_that_fails_does_not_lose_the_checkpoint_under_way(train, tmp_path, monkeypatch):
    forward_loss = Trainer.forward_loss

    def diverges(trainer, *rest):
        total, losses = forward_loss(trainer, *rest)
        if trainer.progress.step < 5:
            return total, losses
        return total * float("nan"), {name: loss * float("nan") for name, loss in losses.items()}

    monkeypatch.setattr(Trainer, "forward_loss", diverges)
    before_making(monkeypatch, 4, lambda: time.sleep(0.5))
    with pytest.raises(Diverged, match="step 5: the loss is nan"):
        train(**FLAGS)
    assert files(tmp_path / "run", 4)
    assert rows(tmp_path / "run", "checkpoint")[-1]["step"] == 4


def test_copy_for_which_memory_is_full_is_written_while_training_waits(train, monkeypatch):
    def full(contents, live):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")

    whole = train(run="whole", **FLAGS)
    monkeypatch.setattr(checkpoint, "copied", full)
    run = train(**FLAGS)
    assert len([row for row in rows(run, "warning") if "too little memory is free for a copy" in row["text"]]) == 1
    assert files(run, 8) == files(whole, 8)


def test_copy_may_take_half_of_the_free_memory(monkeypatch):
    free = MemoryInfo(total=1000, limit=1000, available=200)
    monkeypatch.setattr(memory, "memory_info", lambda: free)
    assert memory.leaves_as_much(100) and not memory.leaves_as_much(101)
    monkeypatch.setattr(memory, "memory_info", lambda: None)
    assert memory.leaves_as_much(10**15)


def test_system_without_another_thread_writes_at_once(train, monkeypatch):
    start = threading.Thread.start

    def refuses(thread):
        if thread.name == "nanotx-save":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuses)
    run = train(**FLAGS)
    assert [row["step"] for row in rows(run, "checkpoint")] == [1, 4, 8]


class Copy:
    """Stands for the copied state."""

    def __init__(self, error=None):
        self.error = error

    def write(self):
        if self.error:
            try:
                raise OSError("the disk is full")
            except OSError:
                raise self.error from None
        return "a warning"


@pytest.mark.parametrize("error", [None, RunError("it is refused")])
def test_copy_is_freed_as_soon_as_it_is_written_or_refused(error):
    copy = Copy(error)
    gone, save = weakref.ref(copy), BackgroundSave(4, copy.write)
    del copy
    save.wait()
    if error is None:
        assert save.result() == "a warning"
    else:
        with pytest.raises(RunError, match="it is refused"):
            save.result()
    deadline = time.monotonic() + PATIENCE
    while gone() is not None and time.monotonic() < deadline:  # the thread itself is about to end
        time.sleep(0.01)
    gc.collect()
    assert gone() is None and save.done and save.step == 4


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e5m2])
def test_numbers_that_are_not_finite_are_found_anywhere(dtype):
    for at in (0, 7, 99):
        sound = torch.linspace(-2, 2, 100).to(dtype)
        assert valid.all_finite(sound) and not valid.has_nan(sound)
        for number in ("nan", "inf", "-inf"):
            numbers = sound.float()
            numbers[at] = float(number)
            assert not valid.all_finite(numbers.to(dtype))
            assert valid.has_nan(numbers.to(dtype)) == (number == "nan")


@pytest.mark.parametrize(
    ("tensor", "finite"),
    [
        (torch.zeros(0), True),
        (torch.tensor(3), True),
        (torch.tensor([True, False]), True),
        (torch.tensor(float("nan")), False),
        (torch.tensor([1 + 2j, complex("nan")]), False),
    ],
)
def test_kinds_of_tensors_that_have_no_extremes_are_judged_too(tensor, finite):
    assert valid.all_finite(tensor) == finite
    assert valid.has_nan(tensor) != finite
