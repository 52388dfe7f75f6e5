"""A disk that fails a run at each of its operations: killed before or after it, refused, or the power lost.

Every change of a run's folder, except the rows of its metrics log, goes through `nanotx.disk`, whose functions are
wrapped here.
"""

import errno
import os
import random
import signal
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

from nanotx import disk
from nanotx.selftest import Broken, Case, Finding
from nanotx.selftest.child import Disturbance
from nanotx.selftest.tiny_runs import EVERY, KIND, begin, check_same, last_line, lost, resume

DISK_FUNCTIONS = ("make", "write", "sync", "rename", "remove")
"""The functions of `nanotx.disk`."""
REFUSALS = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT)
Loss = Literal["content", "zeros", "half", "names"]
LOSSES: tuple[Loss, ...] = ("content", "zeros", "half", "names")


def cases(seed: int, count: int | None) -> list[Case]:
    """Return a case for each operation and each way to fail; or `count` of them, drawn by the seed."""
    ways: list[tuple[str, Disturbance]] = []
    for k, what in enumerate(operations(), start=1):
        draw = random.Random(f"{seed} save {k}")
        refusal, loss = draw.choice(REFUSALS), draw.choice(LOSSES)
        ways += [
            (f"killed before {k}, {what}", partial(kill_before, k)),
            (f"killed after {k}, {what}", partial(kill_after, k)),
            (f"{errno.errorcode[refusal]} at {k}, {what}", partial(fail_at, k, refusal)),
            (f"power lost at {k}, {what}: {loss}", partial(lose_power_at, k, loss)),
        ]
    if count is not None:
        ways = random.Random(f"{seed} save").sample(ways, min(count, len(ways)))
    return [Case(name=f"save/{name}", run=partial(disturbed, disturb)) for name, disturb in ways]


def operations() -> list[str]:
    """Return the operations of a run on the disk, in order."""
    with tempfile.TemporaryDirectory() as name:
        folder, log = Path(name) / "whole", Path(name) / "log"
        folder.mkdir()
        ended = begin(KIND, folder, disturb=partial(record, log)).finish()
        if ended.code != 0:
            raise Broken(f"the run whose operations were counted ended with {ended.code}: {last_line(ended)}")
        return log.read_text(encoding="utf-8").splitlines()


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
    if steps > EVERY and ended.code != 4:  # where the disk refuses every save, the run reports it and continues
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

    def before(number: int, name: str, paths: tuple[Path, ...]) -> None:
        with log.open("a", encoding="utf-8") as lines:
            lines.write(f"{name} {paths[-1].name.replace(str(os.getpid()), 'draft')}\n")

    wrap_disk(before)


def kill_before(k: int) -> None:
    """Kill the process before operation k."""
    wrap_disk(lambda number, name, paths: die() if number == k else None)


def kill_after(k: int) -> None:
    """Kill the process right after operation k."""
    wrap_disk(lambda number, name, paths: None, lambda number, name, paths: die() if number == k else None)


def fail_at(k: int, code: int) -> None:
    """Let the system refuse operation k and all later ones, until the process ends."""

    def before(number: int, name: str, paths: tuple[Path, ...]) -> None:
        if number >= k and name != "remove":
            raise OSError(code, os.strerror(code), str(paths[-1]))

    wrap_disk(before)


def lose_power_at(k: int, loss: Loss) -> None:
    """Cut the power before operation k: what was written and not flushed is lost."""
    unflushed: list[Path] = []  # files whose content may be lost
    unnamed: list[tuple[Path, Path | None]] = []  # names whose folder was not flushed, and what they were before

    def before(number: int, name: str, paths: tuple[Path, ...]) -> None:
        if number == k:
            forget(unflushed, unnamed, loss)
            die()

    def after(number: int, name: str, paths: tuple[Path, ...]) -> None:
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
    before: Callable[[int, str, tuple[Path, ...]], Any],
    after: Callable[[int, str, tuple[Path, ...]], Any] | None = None,
) -> None:
    """Call these around every operation on the disk, with its number from 1, its name and its paths."""
    done = [0]

    def wrap(name: str) -> None:
        inner = getattr(disk, name)

        def outer(*arguments: Any) -> None:
            done[0] += 1
            number, paths = done[0], tuple(value for value in arguments if isinstance(value, Path))
            before(number, name, paths)
            inner(*arguments)
            if after is not None:
                after(number, name, paths)

        setattr(disk, name, outer)

    for name in DISK_FUNCTIONS:
        wrap(name)
