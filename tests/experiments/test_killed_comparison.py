"""A comparison of two swaps on the command line, killed twice on the way, ends with the page of an undisturbed one."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nanotx.cli.main import run

WORDS = [
    *("compare", "macbook", "--change", "ffn=relu2", "--change", "norm=rmsnorm", "--seeds", "3", "--rounds", "0"),
    *("--train.steps", "30", "--model.dim", "32", "--model.layers", "2", "--corpus", "playhouse"),
    *("--corpus.size", "60000", "--examples", "2", "--device", "cpu"),
]


def begun(folder: Path) -> int:
    """Return how many runs have begun."""
    return len(list(folder.rglob("metrics.jsonl")))


@pytest.mark.slow
def test_comparison_killed_twice_ends_with_the_same_page(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    script = "from nanotx.cli.main import main; main()"
    command = [sys.executable, "-c", script, *WORDS, "--processes", "2", "--out", "killed"]
    pages = []
    for number, code in ((signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL), (None, 0)):
        with subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        ) as child:
            before, deadline = begun(tmp_path / "killed"), time.monotonic() + 300
            while number is not None and begun(tmp_path / "killed") < before + 2:
                assert child.poll() is None and time.monotonic() < deadline
                time.sleep(0.01)
            if number is not None:
                child.send_signal(number)
            out, err = child.communicate(timeout=300)
        assert child.returncode == code
        assert ("Stopped, and saved in killed. The same command continues it." in err) == (number == signal.SIGTERM)
        pages.append(out)
    assert run([*WORDS, "--processes", "1", "--out", "whole"]) == 0
    assert pages == ["", "", capsys.readouterr().out]
