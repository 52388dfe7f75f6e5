"""The two ways through an attention that are timed, and what each of them holds in memory."""

from collections.abc import Callable
from functools import cache, partial

import torch
from hardware import dtype_name
from lawful import Shape, build
from timing import forget_peak, megabytes, peak_in_child, peak_on_cuda

from nanotx.device import Machine, choose
from nanotx.registry import load_file

REFERENCE = "sdpa"


def forward(name: str, shape: Shape, machine: Machine) -> Callable[[], object]:
    """A pass without gradients."""
    layer, x = build(name, shape, machine).eval(), shape.draw(machine)
    return torch.no_grad()(lambda: layer(x))


def both(name: str, shape: Shape, machine: Machine) -> Callable[[], object]:
    """A pass and the gradients of the input and of every parameter."""
    layer, x = build(name, shape, machine).train(), shape.draw(machine).requires_grad_()
    wanted, cotangent = [x, *layer.parameters()], shape.draw(machine)

    def run() -> object:
        y = layer(x)
        return torch.autograd.grad(y, wanted, cotangent.to(y), allow_unused=True)

    return run


PASSES = {"forward": forward, "forward+backward": both}


def once(way: str, name: str, shape: Shape, machine: Machine) -> None:
    """Built and run once."""
    PASSES[way](name, shape, machine)()


def alone(files: tuple[str, ...], way: str, name: str, shape: Shape, device: str, dtype: str, threads: int) -> None:
    """`once`, in a process that knows nothing yet; the peak counts from when all is loaded."""
    for file in files:
        load_file(file)
    machine = choose(device, dtype, threads)
    once(way, name, least(shape), machine)
    forget_peak()
    once(way, name, shape, machine)


def least(shape: Shape) -> Shape:
    """Next to nothing, for the same part."""
    return Shape(batch=1, time=2, dim=shape.dim, heads=shape.heads)


def memory(files: tuple[str, ...], way: str, name: str, shape: Shape, machine: Machine) -> float | None:
    """The peak of one row run alone, in millions of bytes."""
    if machine.device.type == "cuda":
        return megabytes(peak_on_cuda(partial(once, way, name, shape, machine), machine.device))
    if machine.device.type != "cpu":
        return None
    settled = machine.device.type, dtype_name(machine), machine.threads
    row = peak_in_child(alone, files, way, name, shape, *settled)
    return megabytes(row, empty(files, way, least(shape), *settled))


@cache
def empty(files: tuple[str, ...], way: str, shape: Shape, device: str, dtype: str, threads: int) -> int | None:
    """The peak of a process that runs next to nothing."""
    return peak_in_child(alone, files, way, REFERENCE, shape, device, dtype, threads)
