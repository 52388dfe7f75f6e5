"""A disk that fails a run at the k-th thing that is done on it: what a child is told to do first.

Every change of a run's folder but the journal's rows goes through `nanotx.disk`, whose functions are counted here.
"""

import math
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from nanotx import disk

NAMES = ("make", "write", "sync", "rename", "remove")
Loss = Literal["content", "zeros", "half", "names"]


def count(log: Path) -> None:
    """Write down what is done on the disk, a line each."""

    def between(number: int, name: str, paths: tuple[Path, ...]) -> None:
        with log.open("a", encoding="utf-8") as lines:
            lines.write(f"{name} {paths[-1].name.replace(str(os.getpid()), 'draft')}\n")

    watch(between)


def kill_before(k: int) -> None:
    """The process is killed before the k-th."""
    watch(lambda number, name, paths: die() if number == k else None)


def kill_after(k: int) -> None:
    """The process is killed right after the k-th."""
    watch(lambda number, name, paths: None, lambda number, name, paths: die() if number == k else None)


def fail_at(k: int, code: int) -> None:
    """The k-th is refused by the system, and those after it are as well, until the process ends."""

    def between(number: int, name: str, paths: tuple[Path, ...]) -> None:
        if number >= k and name != "remove":
            raise OSError(code, os.strerror(code), str(paths[-1]))

    watch(between)


def lose_power_at(k: int, loss: Loss) -> None:
    """The power fails before the k-th: what was written and not flushed is lost, in one way or another."""
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
            unflushed[:] = [moved(one, paths[0], path) for one in unflushed]
            unnamed[:] = [(moved(one, paths[0], path), old) for one, old in unnamed]
            unnamed.append((path, paths[0]))
        elif name == "sync":
            unflushed[:] = [one for one in unflushed if one != path]
            unnamed[:] = [pair for pair in unnamed if pair[0].parent != path]

    watch(before, after)


def moved(path: Path, old: Path, new: Path) -> Path:
    """A path after `old` was renamed to `new`."""
    return new / path.relative_to(old) if path.is_relative_to(old) else path


def forget(unflushed: list[Path], unnamed: list[tuple[Path, Path | None]], loss: Loss) -> None:
    """Do to the disk what a failure of power may do."""
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
    """As if the system had killed it."""
    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))


def watch(
    before: Callable[[int, str, tuple[Path, ...]], Any],
    after: Callable[[int, str, tuple[Path, ...]], Any] | None = None,
) -> None:
    """Have these called around everything that is done on the disk, with its number from 1, its name and its paths."""
    done = [0]

    def wrap(name: str) -> None:
        inner = getattr(disk, name)

        def outer(*given: Any) -> None:
            done[0] += 1
            number, paths = done[0], tuple(one for one in given if isinstance(one, Path))
            before(number, name, paths)
            inner(*given)
            if after is not None:
                after(number, name, paths)

        setattr(disk, name, outer)

    for name in NAMES:
        wrap(name)


def clock_jumps(seconds: float) -> None:
    """The clock on the wall jumps by so many seconds each time that it is looked at, to and fro."""
    import time

    real, side = time.time, [1.0]

    def jumping() -> float:
        side[0] = -side[0]
        return real() + side[0] * seconds

    time.time = jumping


def small_files(limit: int) -> None:
    """The system refuses files of more than so many bytes: a disk that fills up, as far as a process can tell."""
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


def term_in_evaluation(k: int) -> None:
    """Somebody asks for an end while the k-th text is scored."""
    from nanotx.runs import session

    inner, done = vars(session)["evaluate"], [0]

    def outer(*given: Any, **named: Any) -> Any:
        done[0] += 1
        if done[0] == k:
            os.kill(os.getpid(), signal.SIGTERM)
        return inner(*given, **named)

    vars(session)["evaluate"] = outer


def nobody_reads() -> None:
    """The standard output is a pipe that is full, and whose other end nobody reads."""
    reader, writer = os.pipe()
    os.set_inheritable(reader, True)
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, bytes(4096))
    except BlockingIOError:
        os.set_blocking(writer, True)
    os.dup2(writer, 1)


def reader_left() -> None:
    """The standard output is a pipe whose reader has left."""
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(writer, 1)


def terminal(columns: int, kind: str, closes: bool = False) -> None:
    """The standard output is a terminal of so many columns and of this kind; or one that is closed at once."""
    import fcntl
    import pty
    import struct
    import termios
    import threading

    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 20, columns, 0, 0))
    os.environ["TERM"] = kind
    for name in ("COLUMNS", "LINES"):
        os.environ.pop(name, None)
    os.dup2(slave, 1)
    if closes:
        os.close(master)
        return

    def drain() -> None:
        while os.read(master, 4096):
            pass

    threading.Thread(target=drain, daemon=True).start()


def spoil_step(k: int) -> None:
    """The loss of a step is no number."""
    from nanotx.training.trainer import Trainer

    inner = Trainer.forward_loss

    def losses(trainer: Trainer, *given: Any) -> Any:
        total, losses = inner(trainer, *given)
        if trainer.progress.step != k:
            return total, losses
        return total * math.nan, {name: loss * math.nan for name, loss in losses.items()}

    type.__setattr__(Trainer, "forward_loss", losses)
