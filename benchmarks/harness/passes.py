"""The two ways through a layer that are timed, eager or compiled, and what they hold in memory."""

import dataclasses
import time
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import nn

from harness.lawful import build, tolerance
from harness.sizes import Shape
from harness.timing import forget_peak, megabytes, peak_in_child, peak_on_cuda
from nanotx.config.registry import load_file
from nanotx.hardware.device import Machine, choose_machine, synchronize
from nanotx.laws.values import require_close

FORWARD, BOTH = "forward", "forward+backward"
PASSES = (FORWARD, BOTH)
Run = Callable[[], Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """What is run."""

    slot: str
    name: str
    shape: Shape
    way: str  # one of PASSES

    def least(self) -> "Task":
        """The same with next to nothing to do."""
        return dataclasses.replace(self, shape=dataclasses.replace(self.shape, batch=1, time=2))


def ready(task: Task, machine: Machine, wrap: Callable[[nn.Module], nn.Module] = lambda layer: layer) -> Run:
    """A pass without gradients, or one with those of the input and of every parameter; it returns what it computes.

    Args:
        task: what is run; the same weights and input each time.
        machine: where.
        wrap: what is done to the layer first.
    """
    torch.manual_seed(0)
    layer = wrap(build(task.slot, task.name, task.shape, machine))
    x = task.shape.draw(machine)
    if task.way == FORWARD:
        return torch.no_grad()(partial(layer.eval(), x))
    layer.train()
    wanted, cotangent = [x.requires_grad_(), *layer.parameters()], task.shape.draw(machine)

    def run() -> Any:
        y = layer(x)
        return torch.autograd.grad(y, wanted, cotangent.to(y), allow_unused=True)

    return run


def compiled(task: Task, machine: Machine) -> tuple[Run, float]:
    """The same through torch.compile, and the seconds that the compiler took.

    Raises:
        LawBroken: what it computes is not what the layer computes.
    """
    run = ready(task, machine, through_compiler)
    start = time.perf_counter()
    got = run()
    synchronize(machine.device)
    took = time.perf_counter() - start
    want = ready(task, machine)()
    pairs = [(got, want)] if task.way == FORWARD else zip(got, want, strict=True)
    for index, (one, other) in enumerate(pairs):
        if other is not None:
            require_close("compiled", one, other, 10 * tolerance(machine), f"{task.way}, tensor {index}")
    return run, took


def through_compiler(layer: nn.Module) -> nn.Module:
    """The layer, to be compiled for the one shape that it is called with."""
    wrapped: Any = torch.compile(layer, dynamic=False)
    return wrapped


# Memory.


def memory(files: tuple[str, ...], task: Task, machine: Machine) -> float | None:
    """The peak of one task run alone, in millions of bytes."""
    if machine.device.type == "cuda":
        return megabytes(peak_on_cuda(partial(alone_here, task, machine), machine.device))
    if machine.device.type != "cpu":
        return None
    one = peak_in_child(alone, files, task, machine.dtype_name, machine.threads)
    return megabytes(one, empty(files, task.least(), machine.dtype_name, machine.threads))


def alone_here(task: Task, machine: Machine) -> None:
    """A task built and done once."""
    ready(task, machine)()


def alone(files: tuple[str, ...], task: Task, dtype: str, threads: int) -> None:
    """A task done once, in a process that knows nothing yet; the peak counts from when all is loaded."""
    for file in files:
        load_file(file)
    machine = choose_machine("cpu", dtype, threads)
    alone_here(task.least(), machine)
    forget_peak()
    alone_here(task, machine)


@cache
def empty(files: tuple[str, ...], task: Task, dtype: str, threads: int) -> int | None:
    """The peak of a process that does next to nothing."""
    return peak_in_child(alone, files, task, dtype, threads)
