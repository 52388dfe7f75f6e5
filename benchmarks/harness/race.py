"""Contenders on one device: laws, starts, steps timed interleaved, whole trainings; and their rows.

Each contender has a process of its own, so that the settings of one (allocator, compiler) touch no other.
"""

import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from harness import Row
from harness.contenders import BASELINE, CONTENDERS, Compile, Learner, Where, build
from harness.equal_training import CASES, verdict_on
from harness.gpt2 import LIBRARIES
from harness.laws import PASS, figures, time_lawful
from harness.processes import environment, megabytes, preloaded, reset_peak, resident_peak
from harness.recipes import dataset_of, with_dropout
from harness.report import Announce
from harness.timing import Times, confidence_interval, median, ratio, seconds
from nanotx.config.schema import from_table
from nanotx.config.toml import read_toml, write_toml
from nanotx.errors import RunError
from nanotx.recipe import Recipe

TURN = 0.25
"""Seconds that a turn takes, about."""
MAX_FIRST_DIFFERENCE = {False: 0.02, True: 0.1}
"""How far the first losses may be from the baseline's, in nats: without dropout, and with."""
WARM_UP = 4
"""Steps before any is timed: the first compiles, the second allocates the optimizer's state."""
BEST_PEER = "transformers_compiled"
"""Rows have a ratio to it, too."""
Curve = list[tuple[float, float]]
"""At each evaluation, the seconds of training so far and the validation loss."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is compared on one device, and how thoroughly."""

    label: str  # the recipe's name
    names: tuple[str, ...]
    recipe: Recipe
    dropouts: tuple[float, ...]
    where: Where
    target: float | None = None  # the validation loss to reach
    compiling: Compile = "auto"
    rounds: int = 40
    limit: float = 20.0  # seconds after which no round begins
    steps: int = 0  # of a turn; 0 for as many as fill it
    starts: int = 2  # how often each is started from nothing
    seeds: int = 0  # with which each is trained to the end


@dataclass(frozen=True, kw_only=True)
class Began:
    """A contender after its first steps."""

    dtype: str
    compiled: bool
    reason: str  # for compiling, or against it
    parameters: int
    losses: tuple[float, ...]  # of the first steps
    first: float  # seconds of the first step
    later: float  # seconds of a step after it, their median
    memory_mb: float | None  # the peak of these steps; None on a CPU for what is compiled


@dataclass(kw_only=True)
class Measured:
    """What was measured of all contenders with one dropout, by name."""

    dropout: float = 0.0
    starts: dict[str, float] = field(default_factory=dict)  # seconds to the first step, nothing compiled
    began: dict[str, Began] = field(default_factory=dict)
    verdicts: dict[str, str] = field(default_factory=dict)
    times: Times = field(default_factory=dict)  # seconds per step
    curves: dict[str, list[Curve]] = field(default_factory=dict)  # one per seed


def race(plan: Plan, announce: Announce) -> list[Measured]:
    """Return what was measured with each dropout."""
    device, verdicts = plan.where.device, dict[str, str]()
    announce(f"laws on {device}")
    for name in plan.names:
        verdicts[name] = verdict(name, plan, verdicts)
    announce(f"starts on {device}")
    lawful = [name for name in plan.names if verdicts[name] == PASS]
    # The others at their best start as the plain ones do.
    starting = [name for name in lawful if name == "nanotx" or not CONTENDERS[name].best]
    starts = start_all(starting, with_dropout(plan.recipe, plan.dropouts[0]), plan.where, plan.starts)
    every = []
    for fraction in plan.dropouts:
        announce(f"steps on {device}, dropout {fraction:g}")
        measured = compare(replace(plan, recipe=with_dropout(plan.recipe, fraction)), lawful)
        verdicts_now = verdicts | measured.verdicts
        every.append(replace(measured, dropout=fraction, starts=starts, verdicts=verdicts_now))
    return every


def verdict(name: str, plan: Plan, known: Mapping[str, str]) -> str:
    """Return the verdict on a contender; that on a library is the same for plain and best."""
    library = CONTENDERS[name].library
    for other, logged in known.items():
        if library and CONTENDERS[other].library == library:
            return logged
    if name == BASELINE:
        return PASS
    with ProcessPoolExecutor(1, mp_context=preloaded()) as pool:
        where = plan.where
        return pool.submit(verdict_on, name, plan.recipe, plan.dropouts, where.device, where.threads).result()


def compare(plan: Plan, names: Sequence[str]) -> Measured:
    """Start each contender, check its first losses, time steps, train."""
    measured, running = Measured(), dict[str, Worker]()
    try:
        for name in names:
            try:
                running[name] = Worker(name, plan.recipe, plan.where, plan.compiling)
                measured.began[name] = running[name].began
                measured.verdicts[name] = PASS
            except RunError as error:
                measured.verdicts[name] = f"failed: {error}"
        for name, loss in far_first_losses(measured.began, bool(plan.recipe.model.dropout)).items():
            measured.verdicts[name] = loss
            running.pop(name).end()
        measured.times = time_steps(running, measured.verdicts, plan)
        for seed in range(plan.recipe.seed, plan.recipe.seed + plan.seeds):
            for name, curve in train(running, plan, seed).items():
                measured.curves.setdefault(name, []).append(curve)
    finally:
        for worker in running.values():
            worker.end()
    return measured


def far_first_losses(began: Mapping[str, Began], has_dropout: bool) -> dict[str, str]:
    """Return the verdict on those whose first losses, run as they are timed, are far from the baseline's."""
    verdicts, limit = dict[str, str](), MAX_FIRST_DIFFERENCE[has_dropout]
    if BASELINE not in began:
        return verdicts
    for name, contender in began.items():
        pairs = zip(contender.losses, began[BASELINE].losses, strict=True)
        differences = [abs(loss - wanted) for loss, wanted in pairs]
        if not all(difference <= limit for difference in differences):
            shown = ", ".join(f"{difference:.3g}" for difference in differences)
            verdicts[name] = f"failed: first losses are {shown} from the reference's, more than {limit:g}."
    return verdicts


def time_steps(running: Mapping[str, "Worker"], verdicts: Mapping[str, str], plan: Plan) -> Times:
    """Return the seconds per step of each, in each round."""
    counts = {name: plan.steps or steps_per_turn(worker.began.later) for name, worker in running.items()}
    turns = {name: partial(worker.ask, "steps", counts[name]) for name, worker in running.items()}
    times = time_lawful(turns, verdicts, plan.rounds, torch.device("cpu"), calls=1, limit=plan.limit)
    return {name: [taken / counts[name] for taken in values] for name, values in times.items()}


def steps_per_turn(seconds: float) -> int:
    """Return how many steps that last so long fill a turn."""
    return max(1, min(50, round(TURN / seconds)))


def train(running: Mapping[str, "Worker"], plan: Plan, seed: int) -> dict[str, Curve]:
    """Train each to the end; they take turns from evaluation to evaluation."""
    settings = plan.recipe.train
    for worker in running.values():
        worker.ask("restart", seed)
    curves: dict[str, Curve] = {name: [] for name in running}
    done = 0
    while done < settings.steps:
        count = min(settings.eval_every or settings.steps, settings.steps - done)
        for name, worker in running.items():
            before = curves[name][-1][0] if curves[name] else 0.0
            taken = count * worker.ask("steps", count)
            curves[name].append((before + taken, worker.ask("evaluate")))
        done += count
    return curves


# A contender in a process of its own.


class Worker:
    """A contender that does what it is asked, seen from outside."""

    def __init__(self, name: str, recipe: Recipe, where: Where, compiling: Compile) -> None:
        """Start it, and wait for its first steps.

        Raises:
            RunError: it could not take them.
        """
        self.name, context = name, cast(Any, preloaded())
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, name, recipe, where, compiling))
        self.process.start()
        theirs.close()
        try:
            self.began: Began = self.answer()
        except RunError:
            self.end()
            raise

    def ask(self, method: str, *args: Any) -> Any:
        """Return what a method of its `Learner` returns.

        Raises:
            RunError: it failed, or died.
        """
        try:
            self.connection.send((method, *args))
            return self.answer()
        except (RunError, OSError) as error:
            raise RunError(f"{self.name}: {error}.") from None

    def answer(self) -> Any:
        """Return its next answer."""
        try:
            answer = self.connection.recv()
        except EOFError:  # perhaps for lack of memory
            raise RunError("the process died") from None
        if isinstance(answer, RunError):
            raise answer
        return answer

    def end(self) -> None:
        """End the process."""
        if self.process.is_alive():
            try:
                self.connection.send(None)
            except OSError:
                self.process.kill()
        self.process.join()


def serve(connection: Connection, name: str, recipe: Recipe, where: Where, compiling: Compile) -> None:
    """In the process: build a contender, take its first steps, then do what is asked until there is nothing more."""
    try:
        data = dataset_of(recipe)
        if library := CONTENDERS[name].library:
            LIBRARIES[library].require()  # its code is not its model's memory
        load_kernels(where.device)
        reset_peak()
        before = resident_peak()
        learner = build(name, recipe, data, where, compiling)
        connection.send(first_steps(learner, before))
        while request := connection.recv():
            method, *args = request
            if method == "evaluate":
                args = [data.eval_texts["val"], recipe.model.context]
            connection.send(getattr(learner, method)(*args))
    except Exception as error:  # a library may raise anything; the others continue
        connection.send(RunError(f"{type(error).__name__}: {next(iter(str(error).splitlines()), 'no reason given')}"))
        if not isinstance(error, RuntimeError):
            traceback.print_exc()


def load_kernels(device: str) -> None:
    """Take a step of next to nothing, for which torch loads what any step needs: that is no model's memory."""
    layer = nn.Linear(8, 8).to(device)
    layer(torch.ones(8, 8, device=device)).sum().backward()
    torch.optim.AdamW(layer.parameters()).step()


def first_steps(learner: Learner, before: int | None) -> Began:
    """Take the first steps; `before` is the peak memory of the process so far."""
    device = learner.machine.device
    losses: list[float] = []
    times = [seconds(lambda: losses.append(learner.step()), 1, device) for _ in range(WARM_UP)]
    if device.type == "cuda":
        memory = megabytes(torch.cuda.max_memory_allocated(device))
    else:
        memory = None if learner.compiled else megabytes(resident_peak(), before)
    return Began(
        dtype=learner.machine.dtype_name,
        compiled=learner.compiled,
        reason=learner.reason,
        parameters=sum(param.numel() for param in learner.model.parameters()),
        losses=tuple(losses),
        first=times[0],
        later=statistics.median(times[1:]),
        memory_mb=memory,
    )


# From nothing to the first step.


def start_all(names: Sequence[str], recipe: Recipe, where: Where, tries: int) -> dict[str, float]:
    """Return the median seconds from the start of a process to the end of its first step, interleaved."""
    taken: dict[str, list[float]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "recipe.toml")
        file.write_text(write_toml(recipe), encoding="utf-8")
        for _ in range(tries):
            for name in names:
                taken[name].append(start(name, file, where))
    return {name: statistics.median(values) for name, values in taken.items() if values}


def start(name: str, file: Path, where: Where) -> float:
    """Return the seconds from the start of a process to the end of its first step, imports and text included."""
    code = "import sys; from harness.race import first_step; first_step(*sys.argv[1:])"
    words = [sys.executable, "-c", code, str(file), name, where.device, str(where.threads), where.best]
    began = time.perf_counter()
    with subprocess.Popen(words, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        done = any(line == "done\n" for line in process.stdout)  # libraries print too
        taken = time.perf_counter() - began
    if not done:
        raise RunError(f"{name}: a process of its own ended with {process.returncode} before its first step.")
    return taken


def first_step(file: str, name: str, device: str, threads: str, best: str) -> None:
    """In the process: take one step of the recipe in a file, nothing compiled, and print that it is done."""
    recipe: Recipe = from_table(Recipe, read_toml(Path(file)))
    build(name, recipe, dataset_of(recipe), Where(device=device, threads=int(threads), best=best), "off").step()
    print("done", flush=True)


# Rows.


def rows_of(plan: Plan, every: Sequence[Measured], peaks: Mapping[str, float]) -> list[Row]:
    """Return the rows of all contenders on a device; what was not measured is None.

    Args:
        plan: what was compared.
        every: what was measured with each dropout.
        peaks: operations per second, by device and dtype.
    """
    flops = plan.recipe.model.build_meta(dataset_of(plan.recipe).codec.vocab_size).flops_per_token
    rows = []
    for measured in every:
        for name in plan.names:
            row = row_of(name, plan, measured, flops)
            if row["tokens_per_second"]:
                row["mfu"] = row["tokens_per_second"] * flops / peaks[f"{row['device']} {row['dtype']}"]
            rows.append(row)
    return rows


def row_of(name: str, plan: Plan, measured: Measured, flops_per_token: int) -> Row:
    """Return the row of a contender but for its share of the peak."""
    model, batch, began = plan.recipe.model, plan.recipe.train.batch_size, measured.began.get(name)
    own: Any = model.attentions()[0]
    who = CONTENDERS[name]
    return {
        "name": name,
        "device": plan.where.device,
        "dtype": began and began.dtype,
        "compiled": began and began.compiled,
        "compile_reason": began and began.reason,
        "shape": plan.label,
        "batch": batch,
        "time": model.context,
        "dim": model.dim,
        "heads": own.heads,
        "layers": model.layers,
        "dropout": measured.dropout,
        "attention": None if who.library else who.attention or own.part,
        "parameters": began and began.parameters,
        "pass": "step",
        **figures(measured.times, name, BASELINE, {"tokens_per_second": batch * model.context}),
        "flops_per_token": flops_per_token,
        "mfu": None,
        "speedup": ratio(measured.times, BASELINE, name),
        f"ratio_to_{BEST_PEER}": ratio(measured.times, name, BEST_PEER),
        "memory_mb": began and began.memory_mb,
        "start_seconds": measured.starts.get(name),
        "compile_seconds": max(0.0, began.first - began.later) if began and began.compiled else None,
        **training_figures(measured.curves.get(name, []), plan),
        "laws": measured.verdicts[name],
        "cases": CASES,
    }


def training_figures(curves: Sequence[Curve], plan: Plan) -> Row:
    """Return the figures of whole trainings, one per seed."""
    ends = [curve[-1][1] for curve in curves]
    return {
        "seeds": list(range(plan.recipe.seed, plan.recipe.seed + len(curves))),
        "losses": ends,
        "val_loss": statistics.fmean(ends) if ends else None,
        "val_loss_interval": confidence_interval(ends),
        "train_seconds": median([curve[-1][0] for curve in curves]),
        **target_figures(curves, plan.target),
    }


def target_figures(curves: Sequence[Curve], target: float | None) -> Row:
    """Return how many seeds reached the target, after how many seconds if all did, and the lowest loss of all."""
    reached = [
        next((seconds for seconds, loss in curve if target is not None and loss <= target), None) for curve in curves
    ]
    count = sum(seconds is not None for seconds in reached)
    return {
        "target": target,
        "reached": count if curves and target else None,
        "target_seconds": median(reached) if curves and count == len(curves) else None,
        "nearest": min((loss for curve in curves for _, loss in curve), default=None),
    }
