"""Models without the memory of weights: parameters on the meta device, and all else as it is built.

A process that has only slices of a model builds it so, and lets another one draw the weights. Buffers, such as tables
of positions, are real.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.utils.weak import WeakTensorKeyDictionary

from nanotx.hardware.lazy_compiler import SkipInit
from nanotx.nn.buffers import bits

Module = TypeVar("Module", bound=nn.Module)


@contextmanager
def empty_weights() -> Iterator[None]:
    """Context in which modules are built with parameters on the meta device, whose initialisation is skipped.

    A parameter that several modules register is one parameter, as outside of it.
    """
    made = WeakTensorKeyDictionary()

    def move(module: nn.Module, name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
        if parameter is None or has_no_memory(parameter):
            return parameter
        if parameter not in made:
            made[parameter] = nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)
        moved: nn.Parameter = made[parameter]
        return moved

    hook = register_module_parameter_registration_hook(move)  # type: ignore[arg-type]
    try:
        with SkipInit():
            yield
    finally:
        hook.remove()


def has_no_memory(tensor: Tensor) -> bool:
    """Return whether a tensor is on the meta device."""
    return tensor.device.type == "meta"


def is_empty(model: nn.Module) -> bool:
    """Return whether parameters of a model have no memory."""
    return any(map(has_no_memory, model.parameters()))


def moved(model: Module, device: torch.device) -> Module:
    """Return a model whose tensors are on a device, but for parameters without memory."""
    if not is_empty(model):
        return model.to(device)
    allocate_buffers(model, device)
    placed: Module = model._apply(  # type: ignore[no-untyped-call]
        lambda tensor: tensor if has_no_memory(tensor) else tensor.to(device)
    )
    return placed


def allocate(model: nn.Module, parameters: Iterable[nn.Parameter], device: torch.device) -> None:
    """Give memory, of any contents, to those of a model's parameters that have none; tied ones stay tied.

    Args:
        model: all modules that have these parameters.
        parameters: which ones.
        device: where.
    """
    real = {
        id(parameter): nn.Parameter(torch.empty_like(parameter, device=device), requires_grad=parameter.requires_grad)
        for parameter in parameters
        if has_no_memory(parameter)
    }
    for module in model.modules():
        for name, parameter in [*module._parameters.items()]:
            if id(parameter) in real:
                setattr(module, name, real[id(parameter)])


def allocate_buffers(model: nn.Module, device: torch.device) -> None:
    """Give memory to the buffers of a model that were computed from parameters without memory."""
    real = {id(buffer): torch.empty_like(buffer, device=device) for buffer in model.buffers() if has_no_memory(buffer)}
    for module in model.modules():
        for name, buffer in [*module._buffers.items()]:
            if id(buffer) in real:
                module._buffers[name] = real[id(buffer)]


@torch.no_grad()
def set_constants(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy tensors into the buffers of these names, where they differ."""
    for name, tensor in tensors.items():
        buffer = model.get_buffer(name)
        tensor = tensor.to(buffer.device)
        if not torch.equal(bits(buffer), bits(tensor)):  # a constant may be a view that cannot be written
            buffer.copy_(tensor)
