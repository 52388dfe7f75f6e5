"""One layer at one shape: its laws there, the two passes that are timed, eager or compiled, kernels and memory."""

import dataclasses
import random
import time
from collections.abc import Callable, Iterable
from functools import cache, lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from harness.laws import LawResults, try_laws, verdict
from harness.processes import megabytes, peak_in_child, peak_on_cuda, reset_peak
from harness.slots import SLOTS, Shape
from nanotx import laws
from nanotx.config.registry import load_file
from nanotx.experiments.allocated import silent_stderr
from nanotx.hardware.device import Machine, choose_machine, synchronize
from nanotx.laws.cases.layer_case import COARSE, TOLERANCES
from nanotx.laws.equality import Outcome, outputs_and_gradients, require_same_outcome
from nanotx.laws.law import Where
from nanotx.laws.values import position_wise, require_close
from nanotx.laws.weights import share_weights
from nanotx.nn.canonical import to_canonical
from nanotx.nn.kv_cache import KVCache
from nanotx.nn.shapes import Stream


class Autocast(nn.Module):
    """A layer as training runs it: its weights and its stream in float32, its mathematics in the machine's dtype."""

    def __init__(self, layer: nn.Module, machine: Machine) -> None:
        super().__init__()
        self.layer, self.machine = layer, machine

    def forward(self, x: Stream, cache: KVCache | None = None) -> Stream:
        with self.machine.autocast():
            y: Tensor = self.layer(x) if cache is None else self.layer(x, cache=cache)
        return y


def build(slot: str, name: str, shape: Shape, machine: Machine) -> nn.Module:
    """Build the layer that is timed."""
    layer = SLOTS[slot].build(name, shape).to(machine.device)
    return Autocast(layer, machine) if machine.dtype is not torch.float32 else layer


# Laws.


def on_random_cases(slot: str, name: str, machine: Machine, cases: int) -> LawResults:
    """Try every law of the slot on so many small random cases."""
    return try_laws(
        slot, SLOTS[slot].slot.find(name), Where(device=machine.device.type, dtype=machine.dtype_name), cases
    )


def at_shape(slot: str, name: str, shape: Shape, machine: Machine) -> tuple[str, int]:
    """Try one more case of some laws at the shape that is timed; return the verdict and the number of cases."""
    compared, random_cuts, cases = SLOTS[slot], random.Random(shape.tokens), 0
    cut, cuts = random_cuts.randrange(shape.time - 1), sorted(random_cuts.sample(range(1, shape.time), k=2))

    def check() -> None:
        nonlocal cases
        torch.manual_seed(0)
        layer, x, within = build(slot, name, shape, machine).eval(), shape.draw(machine), tolerance(machine)
        if compared.mixes_positions:
            laws.time_prefix(layer, x, cut, within)
            laws.cache_agrees(layer, x, cuts, within)
            laws.causal(layer, x, cut)
        else:
            position_wise(layer, x, within)
        cases += 3 if compared.mixes_positions else 1
        if compared.equivalent(name):
            equivalent(slot, name, shape, dataclasses.replace(machine, dtype=torch.float32))
            cases += 1

    return verdict(check), cases


@cache
def equivalent(slot: str, name: str, shape: Shape, machine: Machine) -> None:
    """Raise LawBroken where a part is not the function that it claims to be."""
    example = example_of(slot, SLOTS[slot].equivalent(name) or name, shape, machine)
    if example is not None:
        reference, x, want = example
        layer = build(slot, name, shape, machine).eval()
        share_weights(reference, layer)
        y, gradients = outputs_and_gradients(layer, x)
        require_same_outcome("equivalent", (y, to_canonical(layer, gradients)), want, 10 * tolerance(machine))


@lru_cache(maxsize=2)
def example_of(slot: str, name: str, shape: Shape, machine: Machine) -> tuple[nn.Module, Tensor, Outcome] | None:
    """Return a module, an input, and its outputs and gradients; None where the memory does not suffice."""
    torch.manual_seed(1)
    layer, x = build(slot, name, shape, machine).eval(), shape.draw(machine)
    try:
        y, gradients = outputs_and_gradients(layer, x)
    except torch.OutOfMemoryError:
        return None
    return layer, x, (y, to_canonical(layer, gradients))


def tolerance(machine: Machine) -> float:
    """Return by how much outputs may differ, relative to the largest (or 1)."""
    return TOLERANCES[machine.device.type, "float32"] if machine.dtype is torch.float32 else COARSE


# Passes.

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
