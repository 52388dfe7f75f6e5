"""Train the runs of an experiment: one process a core, each with one thread; killed at any moment, it resumes."""

import json
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from nanotx.config.registry import load_file
from nanotx.config.schema import from_table, to_table
from nanotx.errors import Diverged, NanotxError, RunError
from nanotx.hardware.cpu import describe_machine
from nanotx.recipe import Recipe
from nanotx.recipe_flags import Options
from nanotx.runs.folder import RunFolder
from nanotx.runs.resume_check import Survey, check_resumable, resolve_auto, survey
from nanotx.runs.session import Session, Work
from nanotx.runs.shared import Shared
from nanotx.runs.valid import read_json
from nanotx.training.signals import Interrupted, Stop, Stopped, listening
from nanotx.training.trainer import Row

PATIENCE = 60.0
"""Seconds that a process gets to save its run after a signal."""

OCCUPIED = 20.0
"""Seconds to wait for the process of a killed experiment that still saves a run."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run to train: an arm at a seed."""

    arm: str
    seed: int
    folder: Path
    recipe: Recipe
    load: tuple[str, ...] = ()  # files of the user's own, which its process has imported


@dataclass(frozen=True, kw_only=True)
class Result:
    """The end of a run."""

    arm: str
    seed: int
    figures: dict[str, Any] = field(default_factory=dict)  # of its summary; empty if it diverged
    diverged: str = ""  # how
    machine: dict[str, Any] = field(default_factory=dict)  # on which it ended
    cpu_seconds: float = 0.0  # processor time of the training, in this process
    stopped: int = 0  # the signal that stopped it, after it was saved
    failure: str = ""  # an error that ends the experiment

    @property
    def finite(self) -> bool:
        """Return whether it ended with a loss."""
        return not self.diverged and self.figures.get("val_loss") is not None


class Quiet:
    """A display that shows nothing."""

    def say(self, text: str) -> None: ...

    def shout(self, text: str, title: str) -> None: ...

    def note(self, text: str) -> None: ...

    def show(self, row: Row) -> None: ...

    def doing(self, what: str, text: str = "") -> None: ...

    def recall(self, rows: list[Row]) -> None: ...

    def __enter__(self) -> "Quiet":
        return self

    def __exit__(self, *_: object) -> None: ...


def finished(job: Job) -> Result | None:
    """Return the result of a run that is complete in its folder; None if it has to be trained.

    Raises:
        RunError: the folder holds a run of another recipe.
    """
    folder = RunFolder(job.folder)
    if not folder.summary.exists():
        return None
    try:
        figures = read_json(folder.summary)
        done = figures["complete"] is True and figures["steps"] == job.recipe.train.steps
    except (OSError, ValueError, KeyError, TypeError, NanotxError):
        return None
    about = figures.get("versions", {})
    return Result(arm=job.arm, seed=job.seed, figures=figures, machine={"versions": about}) if done else None


def train_job(job: Job, shared: Shared) -> Result:
    """Train a run to its end, from its newest checkpoint if it has one, or until a signal stops it.

    Args:
        job: the run.
        shared: what the runs of this process have in common.

    Raises:
        NanotxError: it cannot be trained, for any reason but divergence.
    """
    began = time.process_time()
    with listening() as stop:
        try:
            code = session(job, shared, stop)
        except Interrupted:  # before there was anything to save
            code = stop.exit_code
        except Diverged as error:
            return Result(
                arm=job.arm,
                seed=job.seed,
                diverged=str(error),
                machine=machine(),
                cpu_seconds=time.process_time() - began,
            )
    if stop.signal or code:
        return Result(arm=job.arm, seed=job.seed, stopped=stop.signal or signal.SIGINT)
    result = finished(job)
    if result is None:
        raise RunError(f"{job.folder}: ended without being complete; run the command again to continue it.")
    return Result(
        arm=job.arm, seed=job.seed, figures=result.figures, machine=machine(), cpu_seconds=time.process_time() - began
    )


def session(job: Job, shared: Shared, stop: Stop) -> int:
    """Run a session in the folder of a job, and return its exit code; it evaluates the text that decides alone."""
    folder, recipe = RunFolder(job.folder), job.recipe
    resume = folder.exists and folder.is_run
    surveyed = survey(folder) if resume else Survey()
    if surveyed.recipe:
        recipe = resolve_auto(surveyed.recipe, recipe)
        check_resumable(surveyed.recipe, recipe)
    options = Options(run=str(job.folder), resume=resume, load=job.load)
    began = time.perf_counter()
    work = Work(recipe, folder, options, surveyed, began=began, evaluated=("val",), shared=shared)
    return Session(work, Quiet(), stop).run_to_end(job.folder.name)


def machine() -> dict[str, Any]:
    """Return what the bits of a run may depend on beside its recipe."""
    return describe_machine("torch", "numpy")


def run_jobs(jobs: Sequence[Job], processes: int, load: Sequence[str], on_result: Callable[[Result], None]) -> None:
    """Train all runs that are not complete; `on_result` gets each result as it comes.

    Args:
        jobs: in the order in which they begin.
        processes: how many to train side by side; 1 trains in this process.
        load: files with parts of the user's own.
        on_result: called in this process.

    Raises:
        Stopped: a signal stopped it; every run is saved.
        NanotxError: a run cannot be trained; the others are saved.
    """
    if processes == 1:
        shared = Shared()
        for job in jobs:
            result = train_job(replace(job, load=tuple(load)), shared)
            if result.stopped:
                raise Stopped(result.stopped)
            on_result(result)
        return
    crew = Crew(min(processes, len(jobs)), load)
    try:
        for result in crew.train(jobs):
            on_result(result)
    finally:
        crew.stop()


class Crew:
    """Processes that train runs, one at a time each. When this process dies, they save their runs and end."""

    def __init__(self, size: int, load: Sequence[str]) -> None:
        if sys.platform == "linux":  # a fork of a process that has imported this module, and done nothing else
            context = multiprocessing.get_context("forkserver")
            context.set_forkserver_preload([__name__])
        else:
            context = multiprocessing.get_context("spawn")
        self.members: dict[Connection, BaseProcess] = {}
        for _ in range(size):
            ours, theirs = context.Pipe()
            process = context.Process(target=work, args=(theirs, tuple(load)), daemon=True)
            process.start()
            theirs.close()
            self.members[ours] = process

    def train(self, jobs: Sequence[Job]) -> Iterator[Result]:
        """Yield the results of jobs in the order in which they end.

        Raises:
            Stopped: a member was stopped by a signal.
            RunError: a member died, or a run cannot be trained.
        """
        waiting, busy = deque(jobs), dict[Connection, Job]()
        idle = list(self.members)
        while waiting or busy:
            while waiting and idle:
                member, job = idle.pop(), waiting.popleft()
                member.send(pack(job))
                busy[member] = job
            ready = wait(list(busy))
            for member in [member for member in busy if member in ready]:
                job = busy.pop(member)
                try:
                    result: Result = member.recv()
                except EOFError:
                    code = self.ended(member)
                    raise RunError(
                        f"{job.folder}: its process was ended from outside (exit code {code}), for example because "
                        "memory was full; run the command again to continue, with fewer --processes if it was that."
                    ) from None
                if result.stopped:
                    raise Stopped(result.stopped)
                if result.failure:
                    raise RunError(f"{job.arm}, seed {job.seed}: {result.failure}")
                yield result
                idle.append(member)

    def ended(self, member: Connection) -> int | None:
        """Wait for the end of a member that closed its connection, and return its exit code."""
        self.members[member].join(PATIENCE)
        return self.members[member].exitcode

    def stop(self) -> None:
        """End all members; those that train save their run first."""
        for member, process in self.members.items():
            member.close()
            if process.is_alive():
                process.terminate()
        for process in self.members.values():
            process.join(PATIENCE)


def pack(job: Job) -> tuple[str, int, str, dict[str, Any]]:
    """Return a job as plain values: parts of a loaded file have no module that another process could import."""
    return job.arm, job.seed, str(job.folder), to_table(job.recipe)


def work(jobs: Connection, load: Sequence[str]) -> None:
    """Train the jobs that come through a connection, until it closes."""
    threading.Thread(target=end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # while idle; a run listens by itself
    for file in load:
        load_file(file)
    shared = Shared()
    while True:
        try:
            arm, seed, folder, table = jobs.recv()
        except (EOFError, OSError):
            return
        job = Job(arm=arm, seed=seed, folder=Path(folder), recipe=from_table(Recipe, table), load=tuple(load))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            result = retried(job, shared)
        except NanotxError as error:
            result = Result(arm=arm, seed=seed, failure=f"{type(error).__name__}: {error}")
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            jobs.send(result)
        except OSError:  # the parent process has ended
            return
        if result.stopped:
            return


def retried(job: Job, shared: Shared) -> Result:
    """Train a job; wait for the process of a killed experiment that still saves the run."""
    deadline = time.monotonic() + OCCUPIED
    while True:
        try:
            return train_job(job, shared)
        except RunError as error:
            if "is using this run" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def end_with_parent() -> None:
    """Wait until the parent process is gone, and ask this one to save and end."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def training_curve(folder: Path) -> list[float]:
    """Return the loss of each step of a run, NaN where it is not finite."""
    losses = list[float]()
    with RunFolder(folder).metrics.open(encoding="utf-8") as lines:
        for line in lines:
            if '"step"' in line and '"event": "step"' in line:
                row = json.loads(line)
                del losses[row["step"] - 1 :]  # steps that were taken again
                losses.append(math.nan if row["loss"] is None else row["loss"])
    return losses
