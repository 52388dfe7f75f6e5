"""What happens around a run: signals, lost terminals, clocks, full disks, a second process, folders that vanish."""

import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from nanotx.runs import checkpoint, valid
from nanotx.runs.metrics_log import read
from nanotx.selftest import Broken, Case, Finding, meddle
from nanotx.selftest.child import Child, Ended, Meddle
from nanotx.selftest.small import EVERY, KIND, STEPS, argv, begin, lost, resume, same, tail, undisturbed, until

POSIX = sys.platform != "win32"


def cases(seed: int) -> list[Case]:
    """Each of these once."""
    return [Case(name=f"fault/{name}", run=run) for name, run in every(seed)]


def every(seed: int) -> Iterator[tuple[str, Callable[[Path], Finding]]]:
    """Names, and what is done."""
    names = ("SIGINT", "SIGTERM", "SIGHUP") if POSIX else ()
    for name in names:
        draw = random.Random(f"{seed} {name}")
        yield f"{name}: it saves and says how to go on", partial(stopped, name, draw)
    if POSIX:
        yield "a second SIGINT: it leaves at once", twice
        for k in (1, 2, 3):
            yield f"SIGTERM while text {k} is scored", partial(stopped_in_evaluation, k)
        for limit in (300, 5_000, 20_000):
            yield f"a disk that takes no more than {limit} bytes a file", partial(full, limit)
        yield "a pipe that nobody reads", partial(undisturbed_by, meddle.nobody_reads)
        yield "a pipe whose reader has left", partial(undisturbed_by, meddle.reader_left)
        yield "two processes on one run", two
        yield "a terminal of 20 columns", partial(undisturbed_by, partial(meddle.terminal, 20, "xterm"))
        yield "a terminal of 1 column", partial(undisturbed_by, partial(meddle.terminal, 1, "xterm"))
        yield "TERM=dumb", partial(undisturbed_by, partial(meddle.terminal, 80, "dumb"))
        yield "a terminal that is closed", partial(undisturbed_by, partial(meddle.terminal, 80, "xterm", True))
    yield "a clock that jumps an hour to and fro", partial(undisturbed_by, partial(meddle.clock_jumps, 3600.0))
    yield "checkpoints deleted while it runs", partial(deleted, "run/checkpoints")
    yield "the run's folder deleted while it runs", partial(deleted, "run")
    yield "a loss of NaN: it stops", partial(diverged, "raise")
    yield "a loss that is no number: it goes on", partial(diverged, "skip")


def quiet(ended: Ended, *codes: int) -> None:
    """Raise Broken where a child ended with another code than these, or with a traceback."""
    if ended.code not in codes:
        raise Broken(f"it ended with {ended.code}, not {' or '.join(map(str, codes))}: {tail(ended)}")
    if "Traceback" in ended.err + ended.out:
        raise Broken(f"a traceback: {tail(ended)}")


def went_on(folder: Path, happened: str) -> Finding:
    """Go on to the end, and compare every bit."""
    gone = lost(folder / "run") if (folder / "run").exists() else 0
    resume(KIND, folder)
    same(KIND, folder / "run")
    return Finding(happened=f"{happened}; equal after --resume", lost=gone)


def stopped(name: str, draw: random.Random, folder: Path) -> Finding:
    """A signal that asks for an end."""
    number = getattr(signal, name)
    child = begin(KIND, folder)
    until((folder / "run" / "metrics.jsonl").exists, child)
    time.sleep(draw.uniform(0.0, 0.15 * undisturbed(KIND)["seconds"]))
    child.signal(number)
    ended = child.finish()
    quiet(ended, 128 + number, 0)
    if ended.code and "nanotx resume run" not in ended.out.splitlines()[-2:]:
        raise Broken(f"it did not say how to go on: {tail(ended)}")
    if gone := lost(folder / "run"):
        raise Broken(f"{gone} steps were lost, though it was asked to end")
    return went_on(folder, f"ended with {ended.code}")


def twice(folder: Path) -> Finding:
    """The second signal follows at once."""
    child = begin(KIND, folder)
    until((folder / "run" / "metrics.jsonl").exists, child)
    child.signal(signal.SIGINT)
    child.signal(signal.SIGINT)
    ended = child.finish()
    quiet(ended, 130, 0)
    return went_on(folder, f"ended with {ended.code} after {ended.seconds:.1f} s")


def stopped_in_evaluation(k: int, folder: Path) -> Finding:
    """It saves without having evaluated, and the evaluation is made up for."""
    ended = begin(KIND, folder, meddle=partial(meddle.term_in_evaluation, k)).finish()
    quiet(ended, 143)
    newest, _ = valid.newest(folder / "run" / "checkpoints")
    if newest is None or not valid.read_json(newest / "trainer.json")["progress"]["eval_pending"]:
        raise Broken("the checkpoint does not say that its evaluation is still to come")
    if gone := lost(folder / "run"):
        raise Broken(f"{gone} steps were lost, though it was asked to end")
    return went_on(folder, "saved before it was evaluated")


def full(limit: int, folder: Path) -> Finding:
    """It ends with one message, and what was saved before is there."""
    ended = begin(KIND, folder, meddle=partial(meddle.small_files, limit)).finish()
    quiet(ended, 4)
    if "RunError: " not in ended.err:
        raise Broken(f"no message: {tail(ended)}")
    return went_on(folder, tail(ended)[:80])


def undisturbed_by(how: Meddle, folder: Path) -> Finding:
    """It comes to its end as if nothing were the matter."""
    ended = begin(KIND, folder, meddle=how).finish()
    quiet(ended, 0)
    same(KIND, folder / "run")
    return Finding(happened="came to its end; equal")


def two(folder: Path) -> Finding:
    """The second is told of the first, and the first knows nothing of it."""
    child = begin(KIND, folder)
    until((folder / "run" / ".owner").exists, child)
    child.signal(signal.SIGSTOP)
    late = Child([*argv(KIND), "--run", "run", "--resume"], folder).finish()
    child.signal(signal.SIGCONT)
    quiet(child.finish(), 0)
    quiet(late, 4)
    if f"process {child.pid}" not in late.err:
        raise Broken(f"it was not told by whom: {tail(late)}")
    same(KIND, folder / "run")
    return Finding(happened=tail(late)[:80])


def deleted(name: str, folder: Path) -> Finding:
    """What was deleted is gone; what can be saved is saved, or the run says that it cannot."""
    child = begin(KIND, folder)
    until(lambda: EVERY in checkpoint.steps(folder / "run" / "checkpoints"), child)
    shutil.rmtree(folder / name, ignore_errors=True)
    ended = child.finish()
    quiet(ended, 0, 4)
    if name == "run":  # what the process wrote before it noticed is no run
        shutil.rmtree(folder / name, ignore_errors=True)
    resume(KIND, folder)
    same(KIND, folder / "run")
    return Finding(happened=f"ended with {ended.code}; goes on")


def diverged(policy: str, folder: Path) -> Finding:
    """The run ends before the step, whose place is told, or goes on without it; what was saved before is sound."""
    step = 2 * EVERY + 1
    ended = begin(KIND, folder, meddle=partial(meddle.spoil_step, step), train_on_nonfinite=policy).finish()
    quiet(ended, 5 if policy == "raise" else 0)
    if f"step {step}: the loss is nan" not in ended.out + ended.err:
        raise Broken(f"the step was not named: {tail(ended)}")
    if policy == "skip":
        steps = [row for row in read(folder / "run" / "metrics.jsonl") if row["event"] == "step"]
        if [row["step"] for row in steps if row["loss"] is None] != [step + 1] or len(steps) != STEPS:
            raise Broken("the journal does not tell of the step that was left out")
        return Finding(happened="went on without it")
    gone = lost(folder / "run")
    resume(KIND, folder, train_on_nonfinite=policy)
    same(KIND, folder / "run")
    return Finding(happened="ended; equal after --resume without the fault", lost=gone)
