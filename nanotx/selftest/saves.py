"""A disk that fails a run at each of its operations: killed before or after it, refused, or the power lost.

Every change of a run's folder, except the rows of its metrics log, goes through `nanotx.disk`, whose functions are
wrapped here. The operations of the thread that takes the steps and those of the thread that writes a checkpoint beside
them are counted apart: each has an order, and the two come in any.
"""

import errno
import os
import random
import signal
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from nanotx import disk
from nanotx.selftest import Broken, Case, Finding
from nanotx.selftest.child import Disturbance
from nanotx.selftest.tiny_runs import EVERY, KIND, MOST_LOST, begin, check_same, last_line, lost, resume

DISK_FUNCTIONS = ("make", "write", "sync", "rename", "remove")
"""The functions of `nanotx.disk`."""
REFUSALS = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT)


@dataclass(frozen=True, kw_only=True)
class Place:
    """An operation on the disk: its number from 1 in the thread that does it."""

    beside: bool = False  # of the thread that writes a checkpoint beside the steps
    number: int

    def __str__(self) -> str:
        return f"{'beside ' * self.beside}{self.number}"


Loss = Literal["content", "zeros", "half", "names"]
LOSSES: tuple[Loss, ...] = ("content", "zeros", "half", "names")


def cases(seed: int, count: int | None) -> list[Case]:
    """Return a case for each operation and each way to fail; or `count` of them, drawn by the seed."""
    ways: list[tuple[str, Disturbance]] = []
    for place, what in operations():
        draw = random.Random(f"{seed} save {place}")
        refusal, loss = draw.choice(REFUSALS), draw.choice(LOSSES)
        ways += [
            (f"killed before {place}, {what}", partial(kill_before, place)),
            (f"killed after {place}, {what}", partial(kill_after, place)),
            (f"{errno.errorcode[refusal]} at {place}, {what}", partial(fail_at, place, refusal)),
            (f"power lost at {place}, {what}: {loss}", partial(lose_power_at, place, loss)),
        ]
    if count is not None:
        ways = random.Random(f"{seed} save").sample(ways, min(count, len(ways)))
    return [Case(name=f"save/{name}", run=partial(disturbed, disturb)) for name, disturb in ways]


def operations() -> list[tuple[Place, str]]:
    """Return the operations of a run on the disk, those of each thread in order."""
    with tempfile.TemporaryDirectory() as name:
        folder, log = Path(name) / "whole", Path(name) / "log"
        folder.mkdir()
        ended = begin(KIND, folder, disturb=partial(record, log)).finish()
        if ended.code != 0:
            raise Broken(f"the run whose operations were counted ended with {ended.code}: {last_line(ended)}")
        places = list[tuple[Place, str]]()
        for line in log.read_text(encoding="utf-8").splitlines():
            thread, number, what = line.split(" ", 2)
            places.append((Place(beside=thread == "beside", number=int(number)), what))
        return places


def disturbed(disturb: Disturbance, folder: Path) -> Finding:
    """Run on a disk that fails, check what is left, resume on a sound one, and compare every bit."""
    ended = begin(KIND, folder, disturb=disturb).finish()
    if ended.code not in (0, 4, -9, -15):
        raise Broken(f"the run ended with {ended.code}: {last_line(ended)}")
    if "Traceback" in ended.err:
        raise Broken(f"the run printed a traceback: {last_line(ended)}")
    if ended.code == 4 and "RunError: " not in ended.err:
        raise Broken(f"the run printed no error message: {last_line(ended)}")
    steps = lost(folder / "run") if (folder / "run").exists() else 0
    if steps > MOST_LOST and ended.code != 4:  # where the disk refuses every save, the run reports it and continues
        raise Broken(f"{steps} steps were lost, and the run saves every {EVERY}")
    resume(KIND, folder)
    check_same(KIND, folder / "run")
    left = [path.name for path in (folder / "run" / "checkpoints").glob(".*")]
    if left:
        raise Broken(f"temporary files are left over: {left}")
    end = {0: "finished", 4: last_line(ended)}.get(ended.code or 0, "killed")
    return Finding(happened=f"{end}; equal after --resume", lost=steps)


# What a child does to its own disk.


def record(log: Path) -> None:
    """Write each operation into a log, a line each."""

    def before(place: Place, name: str, paths: tuple[Path, ...]) -> None:
        with log.open("a", encoding="utf-8") as lines:
            thread = "beside" if place.beside else "steps"
            file = paths[-1].name.replace(str(os.getpid()), "draft")
            lines.write(f"{thread} {place.number} {name} {file}\n")

    wrap_disk(before)


def kill_before(place: Place) -> None:
    """Kill the process before an operation."""
    wrap_disk(lambda now, name, paths: die() if now == place else None)


def kill_after(place: Place) -> None:
    """Kill the process right after an operation."""
    wrap_disk(lambda now, name, paths: None, lambda now, name, paths: die() if now == place else None)


def fail_at(place: Place, code: int) -> None:
    """Let the system refuse an operation and all later ones, of any thread, until the process ends."""
    failing = [False]

    def before(now: Place, name: str, paths: tuple[Path, ...]) -> None:
        failing[0] = failing[0] or now == place
        if failing[0] and name != "remove":
            raise OSError(code, os.strerror(code), str(paths[-1]))

    wrap_disk(before)


def lose_power_at(place: Place, loss: Loss) -> None:
    """Cut the power before an operation: what was written and not flushed is lost."""
    unflushed: list[Path] = []  # files whose content may be lost
    unnamed: list[tuple[Path, Path | None]] = []  # names whose folder was not flushed, and what they were before

    def before(now: Place, name: str, paths: tuple[Path, ...]) -> None:
        if now == place:
            forget(unflushed, unnamed, loss)
            die()

    def after(now: Place, name: str, paths: tuple[Path, ...]) -> None:
        path = paths[-1]
        if name == "write":
            unflushed.append(path)
            unnamed.append((path, None))
        elif name == "make":
            unnamed.append((path, None))
        elif name == "rename":
            unflushed[:] = [moved(file, paths[0], path) for file in unflushed]
            unnamed[:] = [(moved(file, paths[0], path), old) for file, old in unnamed]
            unnamed.append((path, paths[0]))
        elif name == "sync":
            unflushed[:] = [file for file in unflushed if file != path]
            unnamed[:] = [pair for pair in unnamed if pair[0].parent != path]

    wrap_disk(before, after)


def moved(path: Path, old: Path, new: Path) -> Path:
    """Return a path after `old` was renamed to `new`."""
    return new / path.relative_to(old) if path.is_relative_to(old) else path


def forget(unflushed: list[Path], unnamed: list[tuple[Path, Path | None]], loss: Loss) -> None:
    """Change the disk as a power failure may."""
    if loss == "names":
        for path, old in reversed(unnamed):
            if path.exists() and old is not None and not old.exists():
                path.rename(old)
            elif path.is_file() and old is None:
                path.unlink()
        return
    for path in unflushed:
        if path.is_file():
            data = path.read_bytes()
            path.write_bytes({"content": b"", "zeros": bytes(len(data)), "half": data[: len(data) // 2]}[loss])


def die() -> None:
    """Kill this process as the system would."""
    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))


def wrap_disk(
    before: Callable[[Place, str, tuple[Path, ...]], Any],
    after: Callable[[Place, str, tuple[Path, ...]], Any] | None = None,
) -> None:
    """Call these around every operation on the disk, with its place, its name and its paths; one thread at a time."""
    done, lock = {False: 0, True: 0}, threading.Lock()

    def wrap(name: str) -> None:
        inner = getattr(disk, name)

        def outer(*arguments: Any) -> None:
            paths = tuple(value for value in arguments if isinstance(value, Path))
            beside = threading.current_thread() is not threading.main_thread()
            with lock:
                done[beside] += 1
                place = Place(beside=beside, number=done[beside])
                before(place, name, paths)
            inner(*arguments)
            if after is not None:
                with lock:
                    after(place, name, paths)

        setattr(disk, name, outer)

    for name in DISK_FUNCTIONS:
        wrap(name)
