"""`nanotx train` in a process of its own, watched from outside: what its journal says when, and its memory."""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness import Row
from nanotx.errors import RunError
from nanotx.runs.folder import RunFolder

ROOT = Path(__file__).resolve().parents[2]
GRAIN = 0.01
"""Seconds between two looks at a process."""


@dataclass(kw_only=True)
class Watched:
    """What was seen of a process."""

    seconds: float = 0.0  # from its start to its end
    peak: int | None = None  # bytes of memory
    rows: list[tuple[float, Row]] = field(default_factory=list)  # of its journal, and when each came
    figures: Row = field(default_factory=dict)  # its summary

    def when(self, event: str) -> float | None:
        """When the first of these came."""
        return next((seconds for seconds, row in self.rows if row["event"] == event), None)


def train(words: Sequence[str], until_first: bool = False) -> Watched:
    """Run `nanotx train` with these words in a folder that is forgotten, to its end or to its first step."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        folder = RunFolder(Path(place, "run"))
        command = [sys.executable, "-m", "nanotx", "train", *words, "--run", str(folder.path)]
        return watch(command, folder, Path(place, "said.txt"), until_first)


def watch(command: Sequence[str], folder: RunFolder, said: Path, until_first: bool = False) -> Watched:
    """Watch a command that makes a run's folder; what it says goes into a file.

    Raises:
        RunError: it failed; says how.
    """
    seen = Watched()
    paths = (str(ROOT), os.environ.get("PYTHONPATH", ""))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    with said.open("w", encoding="utf-8") as out:
        began = time.perf_counter()
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=subprocess.STDOUT)
        try:
            follow(process, folder.metrics, began, seen, until_first)
        finally:
            process.kill()
            process.wait()
    if until_first and seen.when("step") is not None:
        return seen
    if process.returncode or not folder.summary.is_file():
        last = said.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        raise RunError(f"{' '.join(command[1:5])} ended with {process.returncode}: {''.join(last) or 'not a word'}")
    seen.figures = json.loads(folder.summary.read_text(encoding="utf-8"))
    return seen


def follow(process: subprocess.Popen[bytes], journal: Path, began: float, seen: Watched, until_first: bool) -> None:
    """Read the journal as it grows, until the process ends, or has taken its first step."""
    read = 0
    while True:
        ended = process.poll() is not None
        seen.seconds = time.perf_counter() - began
        seen.peak = max(filter(None, (seen.peak, resident_peak(process.pid))), default=None)
        read += take_rows(journal, read, seen)
        if ended or (until_first and seen.when("step") is not None):
            return
        time.sleep(GRAIN)


def take_rows(journal: Path, read: int, seen: Watched) -> int:
    """Add the rows of a journal from a byte on; returns how many bytes they have."""
    if not journal.exists():
        return 0
    with journal.open("rb") as file:
        file.seek(read)
        whole, end, _ = file.read().rpartition(b"\n")
    seen.rows += [(seen.seconds, json.loads(line)) for line in whole.splitlines()]
    return len(whole + end)


def resident_peak(pid: int) -> int | None:
    """The most bytes that a process has held so far; None where that cannot be known."""
    if platform.system() != "Linux":
        return None
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)
