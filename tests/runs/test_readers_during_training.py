"""Beside a run that is training: readers, what killed processes left, and names that no file can bear."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import Forked, finish, start, text, tiny

import nanotx
from nanotx.cli.main import run as nanotx_command
from nanotx.errors import ConfigError, RunError

DEAD = 2**22 + 1
"""The number of no process."""


@pytest.fixture
def words(tmp_path, monkeypatch):
    """What begins a run in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    text(tmp_path / "text.txt")
    return ["train", "shakespeare_char", "--corpus", "file", "--corpus.path", "text.txt", "--run", "run", *tiny()]


@pytest.fixture
def sleeper():
    """The number of a process that lives."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield child.pid
    child.kill()
    child.wait()


def test_what_killed_processes_left_is_removed_when_a_run_is_resumed_and_nothing_else_is(words, sleeper, tmp_path):
    assert nanotx_command(words) == 0
    run = tmp_path / "run"
    left = [f".metrics.jsonl.{DEAD}", f".recipe.toml.{DEAD}", f".summary.json.{DEAD}", f"..owner.{DEAD}"]
    left += [f"checkpoints/.step-9.{DEAD}", f"checkpoints/.step-6.{DEAD}.old", f".tokenizer.json.{os.getpid()}"]
    others = [f".samples.txt.{sleeper}", f"checkpoints/.step-9.{sleeper}", ".notes.2024", f".notes.{DEAD}", "notes.txt"]
    for name in [*left, *others]:
        (run / name).write_text("", encoding="utf-8")
    assert nanotx_command(["resume", "run", "--train.steps", "8"]) == 0
    assert [name for name in left if (run / name).exists()] == []
    assert [name for name in others if not (run / name).exists()] == []


def test_checkpoints_that_a_kill_left_half_replaced_removed_or_probed_are_removed_at_the_next_resume(words, sleeper):
    assert nanotx_command(words) == 0
    run, old = Path("run"), [f".step-6.{DEAD}.old", ".step-6.old", ".step-2"]
    left = [run / "checkpoints" / name for name in old]
    for path in left:
        shutil.copytree(run / "checkpoints/step-6", path)
    left += [run / f".step-probe.{DEAD}", run / f"checkpoints/.step-probe.{DEAD}"]
    others = [run / f".step-probe.{sleeper}", run / f"checkpoints/.step-probe.{sleeper}"]
    for path in [*left[3:], *others]:
        path.write_bytes(b"")
    for steps in ("6", "8"):  # a run that is complete, and one that trains on
        assert nanotx_command(["resume", "run", "--train.steps", steps]) == 0
        assert [path for path in left if path.exists()] == []
        assert [path for path in others if not path.exists()] == []
        left[-1].write_bytes(b"")


@pytest.mark.parametrize("name", [f".step-6.{DEAD}.old", ".step-6.old"])
def test_replaced_checkpoint_stays_until_its_successor_is_sound(words, name):
    assert nanotx_command(words) == 0
    checkpoints = Path("run/checkpoints")
    (checkpoints / "step-6").rename(checkpoints / name)
    assert nanotx_command(["resume", "run", "--train.steps", "5", "--allow-mismatch"]) == 0
    assert (checkpoints / name / "model.safetensors").exists()
    assert nanotx_command(["resume", "run", "--train.steps", "8", "--allow-mismatch"]) == 0
    assert not (checkpoints / name).exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_run_killed_between_two_renames_leaves_nothing_behind_once_it_is_resumed(words):
    assert nanotx_command(words) == 0
    checkpoints = Path("run/checkpoints")
    (checkpoints / "step-6/model.safetensors").write_bytes(b"damaged")

    def die_after_a_rename():
        from nanotx import disk

        rename = disk.rename

        def kill(old, new):
            rename(old, new)
            if new.name.endswith(".old"):
                os._exit(9)

        disk.rename = kill

    child = Forked("resume", "run", cwd=Path.cwd(), before=die_after_a_rename)
    assert child.finish()[0] == 9
    assert [path.name for path in checkpoints.glob(".step-6*.old")]
    assert nanotx_command(["resume", "run"]) == 0
    assert sorted(path.name for path in checkpoints.iterdir()) == ["step-4", "step-6"]


def test_what_a_killed_process_left_of_another_file_is_removed_when_that_is_written_again(words, sleeper, tmp_path):
    assert nanotx_command(words) == 0
    names = [f".out.json.{DEAD}", f".out.json.{sleeper}", f".other.json.{DEAD}"]
    for name in names:
        (tmp_path / name).write_text("", encoding="utf-8")
        os.utime(tmp_path / name, (time.time() - 999,) * 2)
    (tmp_path / f".out.json.{DEAD + 1}").write_text("", encoding="utf-8")  # fresh: perhaps of another machine
    assert nanotx_command(["eval", "run", "--json", "out.json"]) == 0
    assert sorted(path.name for path in tmp_path.glob(".*json*")) == sorted([*names[1:], f".out.json.{DEAD + 1}"])


@pytest.mark.slow
def test_readers_beside_a_run_that_saves_every_step_never_fail(words, tmp_path):
    flags = tiny(train_checkpoint_every=1, train_steps=100_000, train_eval_every=4, train_sample_every=0)
    child = start(*words[: -len(flags)], *flags, cwd=tmp_path)
    run = tmp_path / "run"
    try:
        deadline = time.monotonic() + 60
        while not (run / "checkpoints/step-8").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        for _ in range(8):
            nanotx.load(run)
        for reader in ("show", "eval", "verify", "sample --max-new-tokens 2", "replay --step 6", "diff run --step 6"):
            name, *others = reader.split()
            assert nanotx_command([name, "run", *others]) == 0
        assert child.poll() is None
    finally:
        child.terminate()
        finish(child)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_run_folder_whose_name_is_not_utf8_is_refused_before_anything_is_made(words, tmp_path):
    name = os.fsdecode(b"caf\xe9")
    words[words.index("run")] = name
    with pytest.raises(RunError, match="this name is not UTF-8"):
        nanotx_command(words)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["text.txt"]
    words[words.index(name)] = "run"
    assert nanotx_command(words) == 0
    (tmp_path / "run").rename(tmp_path / name)
    for reader in (["sample"], ["eval"], ["verify"], ["show"], ["replay", "--step", "2"], ["resume"]):
        with pytest.raises(RunError, match="this name is not UTF-8"):
            nanotx_command([reader[0], name, *reader[1:]])


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_corpus_whose_name_is_not_utf8_is_refused_before_anything_is_made(words, tmp_path):
    name = os.fsdecode(b"caf\xe9.txt")
    shutil.move(tmp_path / "text.txt", tmp_path / name)
    words[words.index("text.txt")] = name
    with pytest.raises(ConfigError, match=r"corpus\.path: expected text in UTF-8"):
        nanotx_command(words)
    assert not Path("run").exists()
    (tmp_path / name).rename(tmp_path / "a caf\u00e9.txt")
    words[words.index(name)] = "a caf\u00e9.txt"
    assert nanotx_command(words) == 0
    assert json.loads((tmp_path / "run/summary.json").read_text(encoding="utf-8"))["complete"]
