"""The two passes through a layer that are timed, eager or compiled; their attention kernels, and their memory."""

import dataclasses
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from harness.part_laws import build, tolerance
from harness.processes import megabytes, peak_in_child, peak_on_cuda, reset_peak
from harness.shapes import Shape
from nanotx.config.registry import load_file
from nanotx.hardware.device import Machine, choose_machine, synchronize
from nanotx.laws.values import require_close

FORWARD, BOTH = "forward", "forward+backward"
PASSES = (FORWARD, BOTH)
Run = Callable[[], Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """One pass through one layer."""

    slot: str
    name: str
    shape: Shape
    way: str  # one of PASSES

    def minimal(self) -> "Task":
        """Return the same task with next to nothing to do."""
        return dataclasses.replace(self, shape=dataclasses.replace(self.shape, batch=1, time=2))


def prepare(task: Task, machine: Machine, wrap: Callable[[nn.Module], nn.Module] = lambda layer: layer) -> Run:
    """Return a pass without gradients, or one with those of the input and of every parameter.

    Args:
        task: what is run, with the same weights and input each time.
        machine: where.
        wrap: applied to the layer first.
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


def prepare_compiled(task: Task, machine: Machine) -> tuple[Run, float]:
    """Return the pass through torch.compile, and the seconds of its first call.

    Raises:
        LawBroken: it does not compute what the layer computes.
    """
    run = prepare(task, machine, through_compiler)
    start = time.perf_counter()
    got = run()
    synchronize(machine.device)
    took = time.perf_counter() - start
    want = prepare(task, machine)()
    pairs = [(got, want)] if task.way == FORWARD else zip(got, want, strict=True)
    for index, (compiled, eager) in enumerate(pairs):
        if eager is not None:
            require_close("compiled", compiled, eager, 10 * tolerance(machine), f"{task.way}, tensor {index}")
    return run, took


def through_compiler(layer: nn.Module) -> nn.Module:
    """Return the layer, to be compiled for the one shape that it is called with."""
    wrapped: Any = torch.compile(layer, dynamic=False)
    return wrapped


# The attention kernel that ran: observed, not guessed from what was asked for.

Kernels = tuple[str | None, str | None]
"""That of the forward pass, and that of the backward pass; None for none."""
KERNELS = {"flash": "flash", "efficient": "efficient", "cudnn": "cudnn", "overrideable": "vendor", "math": "math"}
"""A part of an operator's name, and what rows call it."""


def kernels_of(run: Callable[[], object]) -> Kernels:
    """Return the kernels of PyTorch's attention that ran.

    "math" is none of the fast ones: it is PyTorch's own implementation of the definition, which holds all the weights,
    and has no kernel of its own backward.
    """
    with silent_stderr(), profile(activities=[ProfilerActivity.CPU]) as profiled:
        run()
    names = [event.name for event in profiled.events() or [] if event.name.startswith("aten::_scaled_dot_product_")]
    back = [name for name in names if name.endswith("_backward")]
    return first_known(name for name in names if name not in back), first_known(back)


def first_known(operators: Iterable[str]) -> str | None:
    """Return the kernel of the first operator that is known."""
    return next((kernel for name in operators for key, kernel in KERNELS.items() if key in name), None)


@contextmanager
def silent_stderr() -> Iterator[None]:
    """Discard the standard error, of libraries too: the profiler logs its every step."""
    saved, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)


# Memory.


def memory(files: tuple[str, ...], task: Task, machine: Machine) -> float | None:
    """Return the peak memory of a task run alone, in millions of bytes; `files` are loaded first in a child."""
    if machine.device.type == "cuda":
        return megabytes(peak_on_cuda(partial(build_and_run, task, machine), machine.device))
    if machine.device.type != "cpu":
        return None
    peak = peak_in_child(run_alone, files, task, machine.dtype_name, machine.threads)
    return megabytes(peak, empty_peak(files, task.minimal(), machine.dtype_name, machine.threads))


def build_and_run(task: Task, machine: Machine) -> None:
    """Build a layer and run it once."""
    prepare(task, machine)()


def run_alone(files: tuple[str, ...], task: Task, dtype: str, threads: int) -> None:
    """Run a task in a fresh process; the peak counts from when all libraries are loaded."""
    for file in files:
        load_file(file)
    machine = choose_machine("cpu", dtype, threads)
    build_and_run(task.minimal(), machine)
    reset_peak()
    build_and_run(task, machine)


@cache
def empty_peak(files: tuple[str, ...], task: Task, dtype: str, threads: int) -> int | None:
    """Return the peak of a process that does next to nothing."""
    return peak_in_child(run_alone, files, task, dtype, threads)
