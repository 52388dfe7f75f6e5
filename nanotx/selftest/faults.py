"""Faults around a run: signals, lost terminals, clocks, full disks, a second process, deleted folders, NaN."""

import math
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

from nanotx.runs import checkpoint, valid
from nanotx.runs.metrics_log import read
from nanotx.selftest import Broken, Case, Finding
from nanotx.selftest.child import Child, Disturbance, Ended
from nanotx.selftest.saves import Place, wrap_disk
from nanotx.selftest.tiny_runs import (
    EVERY,
    KIND,
    STEPS,
    arguments,
    begin,
    check_same,
    last_line,
    lost,
    resume,
    undisturbed,
    wait_until,
)
from nanotx.training.signals import DELIBERATE

POSIX = sys.platform != "win32"


def cases(seed: int) -> list[Case]:
    """Return each case once."""
    return [Case(name=f"fault/{name}", run=run) for name, run in every(seed)]


def every(seed: int) -> Iterator[tuple[str, Callable[[Path], Finding]]]:
    """Yield names and functions of the cases."""
    names = ("SIGINT", "SIGTERM", "SIGHUP") if POSIX else ()
    for name in names:
        draw = random.Random(f"{seed} {name}")
        yield f"{name}: it saves and prints how to resume", partial(stopped, name, draw)
    if POSIX:
        yield "a second SIGINT: it ends at once", twice
        yield "SIGTERM while a checkpoint is written beside the steps", stopped_in_save
        yield "a second SIGINT while a checkpoint is written beside the steps", twice_in_save
        for k in (1, 2, 3):
            yield f"SIGTERM while text {k} is evaluated", partial(stopped_in_evaluation, k)
        for limit in (300, 5_000, 20_000):
            yield f"a disk that takes no more than {limit} bytes a file", partial(full, limit)
        yield "a full pipe without a reader", partial(unaffected_by, unread_pipe)
        yield "a closed pipe", partial(unaffected_by, closed_pipe)
        yield "two processes on one run", two
        yield "a terminal of 20 columns", partial(unaffected_by, partial(terminal, 20, "xterm"))
        yield "a terminal of 1 column", partial(unaffected_by, partial(terminal, 1, "xterm"))
        yield "TERM=dumb", partial(unaffected_by, partial(terminal, 80, "dumb"))
        yield "a terminal that is closed", partial(unaffected_by, partial(terminal, 80, "xterm", True))
    yield "a clock that jumps an hour to and fro", partial(unaffected_by, partial(clock_jumps, 3600.0))
    yield "checkpoints deleted while it runs", partial(deleted, "run/checkpoints")
    yield "the run's folder deleted while it runs", partial(deleted, "run")
    yield "a NaN loss: it stops", partial(diverged, "raise")
    yield "a NaN loss: it skips the step", partial(diverged, "skip")


def check_end(ended: Ended, *codes: int) -> None:
    """Raise Broken if a child ended with another code than these, or printed a traceback."""
    if ended.code not in codes:
        raise Broken(f"the run ended with {ended.code}, not {' or '.join(map(str, codes))}: {last_line(ended)}")
    if "Traceback" in ended.err + ended.out:
        raise Broken(f"the run printed a traceback: {last_line(ended)}")


def resumed(folder: Path, happened: str) -> Finding:
    """Resume the run to its end, and compare every bit."""
    steps = lost(folder / "run") if (folder / "run").exists() else 0
    resume(KIND, folder)
    check_same(KIND, folder / "run")
    return Finding(happened=f"{happened}; equal after --resume", lost=steps)


def stopped(name: str, draw: random.Random, folder: Path) -> Finding:
    """Send a signal that asks the run to end."""
    number = getattr(signal, name)
    child = begin(KIND, folder)
    wait_until((folder / "run" / "metrics.jsonl").exists, child)
    time.sleep(draw.uniform(0.0, 0.15 * undisturbed(KIND)["seconds"]))
    child.signal(number)
    ended = child.finish()
    check_end(ended, 128 + number, 0)
    if ended.code and "nanotx resume run" not in ended.out.splitlines()[-2:]:
        raise Broken(f"the run did not print how to resume: {last_line(ended)}")
    if steps := lost(folder / "run"):
        raise Broken(f"{steps} steps were lost, and the signal leaves time to save")
    return resumed(folder, f"ended with {ended.code}")


def twice(folder: Path) -> Finding:
    """Send a second SIGINT right after the first."""
    child = begin(KIND, folder)
    wait_until((folder / "run" / "metrics.jsonl").exists, child)
    child.signal(signal.SIGINT)
    child.signal(signal.SIGINT)
    ended = child.finish()
    check_end(ended, 130, 0)
    return resumed(folder, f"ended with {ended.code} after {ended.seconds:.1f} s")


def stopped_in_save(folder: Path) -> Finding:
    """Send SIGTERM while a checkpoint is written beside the steps: it is published, and so is that of the last step."""
    ended = begin(KIND, folder, disturb=partial(signals_in_save, [signal.SIGTERM])).finish()
    check_end(ended, 143)
    if EVERY not in checkpoint.steps(folder / "run" / "checkpoints"):
        raise Broken(f"the checkpoint that was under way is missing: {last_line(ended)}")
    if steps := lost(folder / "run"):
        raise Broken(f"{steps} steps were lost, and the signal leaves time to save")
    return resumed(folder, "saved twice")


def twice_in_save(folder: Path) -> Finding:
    """Send a second SIGINT while the run waits for a checkpoint that is under way: it ends without that one."""
    signals = [signal.SIGINT, signal.SIGINT]
    ended = begin(KIND, folder, disturb=partial(signals_in_save, signals, stuck=True)).finish()
    check_end(ended, 130)
    if [*checkpoint.steps(folder / "run" / "checkpoints")] != [1]:
        raise Broken(f"a checkpoint is there that could not be written: {last_line(ended)}")
    return resumed(folder, f"ended after {ended.seconds:.1f} s")


def stopped_in_evaluation(k: int, folder: Path) -> Finding:
    """Send SIGTERM during an evaluation: the run saves before it has evaluated, and evaluates when it is resumed."""
    ended = begin(KIND, folder, disturb=partial(term_in_evaluation, k)).finish()
    check_end(ended, 143)
    newest, _ = valid.newest(folder / "run" / "checkpoints")
    if newest is None or not valid.read_json(newest / "trainer.json")["progress"]["eval_pending"]:
        raise Broken("the checkpoint does not record that its evaluation is pending")
    if steps := lost(folder / "run"):
        raise Broken(f"{steps} steps were lost, and the signal leaves time to save")
    return resumed(folder, "saved before it had evaluated")


def full(limit: int, folder: Path) -> Finding:
    """Limit the size of files: the run ends with one message, and earlier checkpoints stay valid."""
    ended = begin(KIND, folder, disturb=partial(small_files, limit)).finish()
    check_end(ended, 4)
    if "RunError: " not in ended.err:
        raise Broken(f"the run printed no error message: {last_line(ended)}")
    return resumed(folder, last_line(ended)[:80])


def unaffected_by(disturb: Disturbance, folder: Path) -> Finding:
    """Disturb a run in a way that must not change it."""
    ended = begin(KIND, folder, disturb=disturb).finish()
    check_end(ended, 0)
    check_same(KIND, folder / "run")
    return Finding(happened="finished; equal")


def two(folder: Path) -> Finding:
    """Start a second process on the run: it is refused, and the first one is not affected."""
    child = begin(KIND, folder)
    wait_until((folder / "run" / ".owner").exists, child)
    child.signal(signal.SIGSTOP)
    late = Child([*arguments(KIND), "--run", "run", "--resume"], folder).finish()
    child.signal(signal.SIGCONT)
    check_end(child.finish(), 0)
    check_end(late, 4)
    if f"process {child.pid}" not in late.err:
        raise Broken(f"the refusal does not name the first process: {last_line(late)}")
    check_same(KIND, folder / "run")
    return Finding(happened=last_line(late)[:80])


def deleted(name: str, folder: Path) -> Finding:
    """Delete a folder of the run: the run saves what it can or ends with a message, and can be resumed."""
    child = begin(KIND, folder)
    wait_until(lambda: EVERY in checkpoint.steps(folder / "run" / "checkpoints"), child)
    shutil.rmtree(folder / name, ignore_errors=True)
    ended = child.finish()
    check_end(ended, 0, 4)
    if name == "run":  # what the process wrote before it noticed is not a run
        shutil.rmtree(folder / name, ignore_errors=True)
    resume(KIND, folder)
    check_same(KIND, folder / "run")
    return Finding(happened=f"ended with {ended.code}; resumed")


def diverged(policy: str, folder: Path) -> Finding:
    """Make a loss NaN: the run names the step and ends or skips it; earlier checkpoints stay valid."""
    step = 2 * EVERY + 1
    ended = begin(KIND, folder, disturb=partial(nan_loss, step), train_on_nonfinite=policy).finish()
    check_end(ended, 5 if policy == "raise" else 0)
    if f"step {step}: the loss is nan" not in ended.out + ended.err:
        raise Broken(f"the message does not name the step: {last_line(ended)}")
    if policy == "skip":
        rows = [row for row in read(folder / "run" / "metrics.jsonl") if row["event"] == "step"]
        if [row["step"] for row in rows if row["loss"] is None] != [step + 1] or len(rows) != STEPS:
            raise Broken("metrics.jsonl does not record the skipped step")
        return Finding(happened="skipped")
    steps = lost(folder / "run")
    resume(KIND, folder, train_on_nonfinite=policy)
    check_same(KIND, folder / "run")
    return Finding(happened="ended; equal after --resume without the fault", lost=steps)


# What a child does to itself.


def clock_jumps(seconds: float) -> None:
    """Let the clock jump by so many seconds, forwards and backwards in turn, each time that it is read."""
    read_clock, side = time.time, [1.0]

    def jumping() -> float:
        side[0] = -side[0]
        return read_clock() + side[0] * seconds

    time.time = jumping


def small_files(limit: int) -> None:
    """Let the system refuse files of more than so many bytes, which looks like a full disk."""
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


def term_in_evaluation(k: int) -> None:
    """Send SIGTERM to this process while it evaluates text k."""
    from nanotx.training.callbacks import evaluation

    inner, done = vars(evaluation)["evaluate"], [0]

    def outer(*arguments: Any, **options: Any) -> Any:
        done[0] += 1
        if done[0] == k:
            os.kill(os.getpid(), signal.SIGTERM)
        return inner(*arguments, **options)

    vars(evaluation)["evaluate"] = outer


def signals_in_save(numbers: list[signal.Signals], stuck: bool = False) -> None:
    """Send signals to this process when it writes the second checkpoint of its run, each when the last was heard.

    Args:
        numbers: the signals.
        stuck: never write that checkpoint.
    """
    place, sent = Place(beside=True, number=4), Event()

    def before(now: Place, name: str, paths: tuple[Path, ...]) -> None:
        if now == place:
            for number in numbers:
                os.kill(os.getpid(), number)
                time.sleep(2 * DELIBERATE)
            if stuck:
                sent.wait()

    wrap_disk(before)


def unread_pipe() -> None:
    """Make stdout a full pipe that is never read."""
    reader, writer = os.pipe()
    os.set_inheritable(reader, True)
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, bytes(4096))
    except BlockingIOError:
        os.set_blocking(writer, True)
    os.dup2(writer, 1)


def closed_pipe() -> None:
    """Make stdout a pipe that its reader has closed."""
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(writer, 1)


def terminal(columns: int, kind: str, closes: bool = False) -> None:
    """Make stdout a terminal of a width and a kind ($TERM), or one that closes at once."""
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


def nan_loss(k: int) -> None:
    """Make the loss of the step after step k NaN."""
    from nanotx.training.trainer import Trainer

    inner = Trainer.forward_loss

    def losses(trainer: Trainer, *arguments: Any) -> Any:
        total, parts = inner(trainer, *arguments)
        if trainer.progress.step != k:
            return total, parts
        return total * math.nan, {name: loss * math.nan for name, loss in parts.items()}

    type.__setattr__(Trainer, "forward_loss", losses)
