"""A run whose folder is moved away while it trains leaves the run that takes its name alone."""

import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from helpers import finish, start, tiny

from nanotx.cli.main import run


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="this system cannot hold a process")
def test_run_that_was_moved_writes_nothing_into_the_run_that_took_its_name(tmp_path: Path) -> None:
    other, place, moved = tmp_path / "other", tmp_path / "place", tmp_path / "moved"
    assert run(["train", "macbook", *tiny(), "--corpus", "playhouse", "--run", str(other)]) == 0
    flags = tiny(train_steps=100_000, train_checkpoint_every=400, train_eval_every=90_000, train_sample_every=90_000)
    child = start("train", "macbook", *flags, "--corpus", "playhouse", "--run", "place", cwd=tmp_path)
    try:
        until = time.monotonic() + 60
        while not list(place.glob("checkpoints/step-*")) and time.monotonic() < until:
            time.sleep(0.02)
        os.kill(child.pid, signal.SIGSTOP)
        place.rename(moved)
        shutil.copytree(other, place)
        os.kill(child.pid, signal.SIGCONT)
        code, _, message = finish(child)
    finally:
        child.kill()
    assert code == 4 and "moved or removed" in message and "Traceback" not in message
    listing = {file.relative_to(place): file.read_bytes() for file in place.rglob("*") if file.is_file()}
    assert listing == {file.relative_to(other): file.read_bytes() for file in other.rglob("*") if file.is_file()}
    assert list(moved.glob("checkpoints/step-*"))
