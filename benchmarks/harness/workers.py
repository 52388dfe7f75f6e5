"""Each contender in a process of its own, stepping when told: settings of one (allocator, compiler) touch no other.

On Linux the processes are forked from one that has loaded the libraries and computed nothing.
"""

import statistics
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, cast

import torch
from torch import nn

from harness.builds import Built, Compile, Where, build
from harness.contenders import CONTENDERS, LIBRARIES, texts_of
from harness.learning import Learner
from harness.processes import megabytes, preloaded, reset_peak, resident_peak
from harness.timing import seconds
from nanotx.errors import RunError
from nanotx.recipe import Recipe

WARM = 4
"""Steps before any is timed; the first holds the compiling, the second the optimizer's averages."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a process is to be."""

    name: str  # of the contender
    recipe: Recipe
    where: Where
    compiling: Compile


@dataclass(frozen=True, kw_only=True)
class Began:
    """What became of it after its first steps."""

    dtype: str
    compiled: bool
    reason: str  # for compiling, or against it
    parameters: int
    losses: tuple[float, ...]  # of the first steps
    first: float  # seconds of the first step
    later: float  # seconds of one after it, the middle one
    memory_mb: float | None  # the peak of these steps; None on a CPU for what is compiled


def serve(line: Connection, order: Order) -> None:
    """Build a contender, take its first steps, then do what is asked for until told to end."""
    try:
        texts, who = texts_of(order.recipe), CONTENDERS[order.name]
        if who.library:
            LIBRARIES[who.library].require()  # its code is not its model's memory
        touch(order.where.device)
        reset_peak()
        before = resident_peak()
        built = build(order.name, order.recipe, texts, order.where, order.compiling)
        line.send(begin(built, before))
        learner = Learner(built, texts.eval_texts["val"], order.recipe.model.context)
        while word := line.recv():
            line.send(getattr(learner, word[0])(*word[1:]))
    except Exception as error:  # whatever a library may raise; the others go on
        line.send(RunError(f"{type(error).__name__}: {next(iter(str(error).splitlines()), 'no reason given')}"))
        if not isinstance(error, RuntimeError):
            traceback.print_exc()


def touch(device: str) -> None:
    """A step of next to nothing, for which torch loads what any step needs: that is no model's memory."""
    layer = nn.Linear(8, 8).to(device)
    layer(torch.ones(8, 8, device=device)).sum().backward()
    torch.optim.AdamW(layer.parameters()).step()


def begin(built: Built, before: int | None) -> Began:
    """Take the first steps."""
    device = built.machine.device
    losses: list[float] = []
    times = [seconds(lambda: losses.append(built.advance()), 1, device) for _ in range(WARM)]
    if device.type == "cuda":
        memory = megabytes(torch.cuda.max_memory_allocated(device))
    else:
        memory = None if built.compiled else megabytes(resident_peak(), before)
    return Began(
        dtype=built.machine.dtype_name,
        compiled=built.compiled,
        reason=built.reason,
        parameters=sum(parameter.numel() for parameter in built.model.parameters()),
        losses=tuple(losses),
        first=times[0],
        later=statistics.median(times[1:]),
        memory_mb=memory,
    )


class Process:
    """A contender that does what it is told, seen from outside."""

    def __init__(self, order: Order) -> None:
        """Start it, and wait for its first steps.

        Raises:
            RunError: it could not take them; says why.
        """
        self.name, context = order.name, cast(Any, preloaded())
        self.line, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, order))
        self.process.start()
        theirs.close()
        try:
            self.began: Began = self.answer()
        except RunError:
            self.end()
            raise

    def ask(self, word: str, *args: Any) -> Any:
        """What its `Learner` answers to a method's name and arguments.

        Raises:
            RunError: it failed, or died.
        """
        try:
            self.line.send((word, *args))
            return self.answer()
        except (RunError, OSError) as error:
            raise RunError(f"{self.name}: {error}.") from None

    def answer(self) -> Any:
        """What it says next."""
        try:
            said = self.line.recv()
        except EOFError:  # perhaps for want of memory
            raise RunError("the process died") from None
        if isinstance(said, RunError):
            raise said
        return said

    def end(self) -> None:
        """Let it go."""
        if self.process.is_alive():
            try:
                self.line.send(None)
            except OSError:
                self.process.kill()
        self.process.join()
