"""What cannot be read or written: no traceback, no step lost, and the message says what is needed and what is free."""

import errno
import io
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import text, tiny, tiny_command

from nanotx import disk
from nanotx.cli.main import run as nanotx
from nanotx.config.toml import write_toml
from nanotx.errors import NanotxError, RunError
from nanotx.recipe import Recipe, Train
from nanotx.runs import checkpoint
from nanotx.runs.folder import RunFolder
from nanotx.runs.resume_check import had_checkpoint


@pytest.fixture
def train(tmp_path, monkeypatch):
    """A function that trains in a folder of its own; returns the exit code."""
    monkeypatch.chdir(tmp_path)
    text(tmp_path / "text.txt")

    return lambda *words, **flags: nanotx(tiny_command(*words, **flags))


def rows(run: Path, event: str) -> list[dict]:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    times = {"wall_seconds", "tokens_per_second"}
    figures = [row for row in map(json.loads, lines) if row["event"] == event]
    return [{key: item for key, item in row.items() if key not in times} for row in figures]


def checkpoints(run: Path) -> list[int]:
    return sorted(int(path.name[5:]) for path in run.glob("checkpoints/step-*"))


def refusing(monkeypatch, name, code, *, when):
    """Have the disk refuse one of the things that are done on it, whenever `when` says so of its path."""
    inner = getattr(disk, name)

    def outer(*given):
        path = [item for item in given if isinstance(item, Path)][-1]
        if when(path):
            raise OSError(code, os.strerror(code), str(path))
        return inner(*given)

    monkeypatch.setattr(disk, name, outer)


def unreadable(monkeypatch, name, code):
    """Have the system refuse to open a file, as it does where permission is missing or a sector is bad."""
    inner = io.open

    def outer(file, *given, **named):
        if str(file).endswith(name):
            raise OSError(code, os.strerror(code), str(file))
        return inner(file, *given, **named)

    monkeypatch.setattr(io, "open", outer)


COMMANDS = [
    ["sample", "run", "--max-new-tokens", "4", "--temperature", "0"],
    ["eval", "run"],
    ["replay", "run", "--step", "6"],
    ["diff", "run", "other"],
]


@pytest.mark.parametrize(
    ("code", "file"),
    [(errno.EIO, "model.safetensors"), (errno.EACCES, "trainer.json"), (errno.EACCES, "MANIFEST.json")],
)
def test_unreadable_newest_checkpoint_is_skipped_by_every_command(train, tmp_path, monkeypatch, capsys, code, file):
    assert train() == 0
    shutil.copytree("run", "other")
    unreadable(monkeypatch, f"run/checkpoints/step-6/{file}", code)
    for words in COMMANDS:
        assert nanotx(words) == 0, words
    assert nanotx(["verify", "run"]) == 4
    capsys.readouterr()
    assert train("--resume") == 0
    output = capsys.readouterr().out
    assert os.strerror(code) in output and "continues from step 4" in output


def test_checkpoint_that_is_asked_for_and_cannot_be_read_is_refused_by_name(train, monkeypatch):
    assert train() == 0
    unreadable(monkeypatch, "step-6/model.safetensors", errno.EACCES)
    for words in (["sample", "run", "--step", "6"], ["eval", "run", "--step", "6"]):
        with pytest.raises(RunError, match=r"step-6/model\.safetensors: cannot be read: Permission denied"):
            nanotx(words)


WITHOUT_PERMISSION = """
import ctypes, os, sys
if os.geteuid() == 0:  # root, without the two capabilities by which it reads what it may not
    libc, data = ctypes.CDLL(None), (ctypes.c_uint32 * 6)()
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    libc.capget(header, data)
    data[0] &= 0xFFFFFFF9
    if libc.capset(header, data):
        sys.exit(77)
from nanotx.cli.main import run
for words in (["sample", "run", "--max-new-tokens", "3"], ["eval", "run"], ["verify", "run"], sys.argv[1:]):
    print("code", run(words))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="permissions are taken away as Linux does it")
def test_user_without_permission_is_answered_by_every_command(train, tmp_path):
    assert train() == 0
    (tmp_path / "run/checkpoints/step-6/model.safetensors").chmod(0)
    resume = ["train", "run/recipe.toml", "--run", "run", "--resume"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PERMISSION, *resume], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    if done.returncode == 77:
        pytest.skip("this process may not give up its capabilities")
    codes = [line for line in done.stdout.splitlines() if line.startswith("code ")]
    assert codes == ["code 0", "code 0", "code 4", "code 0"], done.stdout + done.stderr
    assert "cannot be read: Permission denied" in done.stdout and "continues from step 4" in done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes")
@pytest.mark.parametrize("mask", [0o022, 0o002, 0o077])
def test_all_files_of_a_run_may_be_read_by_whom_the_umask_lets(train, tmp_path, mask):
    before = os.umask(mask)
    try:
        assert train("--train.ema-decay", "0.9") == 0
    finally:
        os.umask(before)
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file() and not path.name.startswith(".")]
    assert len(files) > 10
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in files} == {
        path.name: 0o666 & ~mask for path in files
    }


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_folder_that_takes_no_checkpoint_is_found_before_the_first_step(train, tmp_path, monkeypatch, code):
    refusing(monkeypatch, "write", code, when=lambda path: "step-" in str(path))
    with pytest.raises(
        RunError, match=r"a checkpoint cannot be written there: .*It needs [\d,]+ bytes, and [\d,]+ are"
    ):
        train()
    assert not [path for path in (tmp_path / "run").iterdir() if not path.name.startswith(".")]
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert train() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is one of Linux")
def test_disk_without_room_for_one_checkpoint_is_found_before_the_first_step(tmp_path):
    text(tmp_path / "text.txt")
    words = ["train", "shakespeare_char", "--corpus", "file", "--corpus.path", "text.txt", "--run", "run", *tiny()]
    limited = f"ulimit -f 8; exec {sys.executable} -m nanotx {' '.join(words)}"
    done = subprocess.run(["bash", "-c", limited], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 4, done.stderr
    assert "a checkpoint cannot be written there: File too large" in done.stderr and "Traceback" not in done.stderr


def test_checkpoint_that_cannot_be_written_is_a_warning_and_the_next_one_is_tried(train, tmp_path, monkeypatch, capsys):
    assert train(run="whole") == 0
    refusing(monkeypatch, "write", errno.ENOSPC, when=lambda path: "run/checkpoints/.step-4." in str(path))
    assert train() == 0
    (warning,) = rows(tmp_path / "run", "warning")
    assert "step 4: run/checkpoints/step-4: the checkpoint cannot be written: " in warning["text"]
    assert "It needs " in warning["text"] and " are free" in warning["text"] and warning["step"] == 4
    assert "Training continues" in capsys.readouterr().out
    assert checkpoints(tmp_path / "run") == [2, 6]
    for event in ("step", "eval", "sample"):
        assert rows(tmp_path / "run", event) == rows(tmp_path / "whole", event)
    for name in ("model.safetensors", "optimizer.safetensors"):
        first, other = (tmp_path / run / "checkpoints/step-6" / name for run in ("run", "whole"))
        assert first.read_bytes() == other.read_bytes()


def test_disk_that_fails_to_the_end_costs_no_earlier_step_and_exits_with_4(train, tmp_path, monkeypatch):
    assert train(run="whole", train_steps=8) == 0
    names = ("run/checkpoints/.step-6.", "run/checkpoints/.step-8.")
    refusing(monkeypatch, "sync", errno.EIO, when=lambda path: any(name in str(path) for name in names))
    with pytest.raises(RunError, match=r"step-8: the checkpoint cannot be written.*old checkpoints take .*: step-2"):
        train(train_steps=8)
    assert [row["step"] for row in rows(tmp_path / "run", "warning")] == [6, 8]
    assert len(rows(tmp_path / "run", "step")) == 8
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert train("--resume", train_steps=8) == 0
    for event in ("step", "eval", "sample"):
        assert rows(tmp_path / "run", event) == rows(tmp_path / "whole", event)


def full_journal(monkeypatch, size, until):
    """Have metrics.jsonl take its first row and no more than so many bytes, and half of the row that exceeds them."""
    import nanotx.runs.metrics_log as journal  # the file of rows is no file of the seam: it is appended to

    inner = journal.Path.open

    class Full(io.FileIO):
        def write(self, data):
            if not (used := os.fstat(self.fileno()).st_size):
                self.limit = len(data) + size  # the first row says where the run is, and has a length of its own
            room = self.limit - used
            if room >= len(data) or until():
                return super().write(data)
            if room > 0:
                return super().write(bytes(data)[:room])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def opened(path, mode="r", *given, **named):
        if path.name == "metrics.jsonl" and "a" in mode:
            return Full(str(path), "a+")
        return inner(path, mode, *given, **named)

    monkeypatch.setattr(Path, "open", opened)


def test_rows_that_the_disk_refuses_are_written_when_it_takes_them_again(train, tmp_path, monkeypatch, capsys):
    assert train(run="whole") == 0
    full_journal(monkeypatch, 300, until=lambda: 4 in checkpoints(tmp_path / "run"))
    assert train() == 0
    output = capsys.readouterr().out
    assert output.count("metrics.jsonl: cannot be written: No space left on device") == 1
    assert "kept in memory" in output
    for event in ("step", "eval", "sample", "end"):
        assert rows(tmp_path / "run", event) == rows(tmp_path / "whole", event)


def test_rows_that_the_disk_never_takes_end_the_run_with_exit_code_4_and_its_checkpoints(train, tmp_path, monkeypatch):
    full_journal(monkeypatch, 300, until=lambda: False)
    with pytest.raises(NanotxError, match="No space left on device") as caught:
        train()
    assert caught.value.exit_code == 4
    assert checkpoints(tmp_path / "run")[-1] == 6
    data = (tmp_path / "run/metrics.jsonl").read_bytes()
    assert data.count(b"\n") > 1 and data.endswith(b"\n")  # no half of a row


def test_samples_that_the_disk_refuses_once_are_all_there_at_the_end(train, tmp_path, monkeypatch):
    assert train(run="whole") == 0
    refused = []

    def once(path):
        result = path.name.startswith(".samples.txt") and "run" in path.parts and not refused
        refused.extend([path] * result)
        return result

    refusing(monkeypatch, "write", errno.EDQUOT, when=once)
    assert train() == 0 and refused
    assert (tmp_path / "run/samples.txt").read_bytes() == (tmp_path / "whole/samples.txt").read_bytes()
    (warning,) = rows(tmp_path / "run", "warning")
    assert "samples.txt: cannot be written: " in warning["text"]


def test_library_that_cannot_open_a_file_is_a_failing_disk(train, tmp_path, monkeypatch, capsys):
    def refuses(*_):
        raise RuntimeError("Too many open files (os error 24)")

    assert train(train_steps=2) == 0
    with monkeypatch.context() as patched:
        patched.setattr("nanotx.runs.valid.load_file", refuses)
        with pytest.raises(RunError, match=r"model.safetensors: cannot be read as safetensors: Too many open files"):
            nanotx(["sample", "run"])
    monkeypatch.setattr("nanotx.runs.checkpoint.safe_open", refuses)
    with pytest.raises(RunError, match="Too many open files"):
        train("--resume", train_steps=4)
    assert "Training continues" in capsys.readouterr().out


def test_run_whose_disk_refused_every_checkpoint_had_none(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.recipe.write_text(write_toml(Recipe(train=Train(steps=16, checkpoint_every=4))), encoding="utf-8")
    (tmp_path / "file").touch()
    with pytest.raises(RunError) as refused:
        checkpoint.write_atomic(tmp_path / "file" / "step-4", {"trainer.json": "{}"})
    rows = [{"event": "step", "step": step} for step in range(1, 9)]
    warning = {"event": "warning", "step": 4, "text": f"step 4: {refused.value} Training continues."}
    assert had_checkpoint(folder, rows, 8)  # it may have died before it logged the first one
    assert not had_checkpoint(folder, [*rows[:4], warning, *rows[4:]], 8)
    assert had_checkpoint(folder, [{"event": "checkpoint", "step": 1}, *rows, warning], 8)
