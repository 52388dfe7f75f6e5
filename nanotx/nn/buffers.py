"""The persistent buffers of a model, such as running statistics: what of its state is no parameter and is saved."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from nanotx.errors import ConfigError

Tensors = dict[str, Tensor]

DTYPES = {
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2),
}
"""Dtypes that every version of safetensors can store."""

LEAVE_OUT = "register_buffer(..., persistent=False) leaves it out of what is saved"


class Buffers:
    """The persistent buffers of a model, by name."""

    def __init__(self, model: nn.Module) -> None:
        """Find them.

        Raises:
            ConfigError: the state of a module is something else than parameters and buffers that a file can hold.
        """
        self.model, self.names = model, persistent_buffers(model)
        self.shapes = {name: (tensor.shape, tensor.dtype) for name, tensor in self.tensors().items()}

    def tensors(self) -> Tensors:
        """Return the buffers as they are now."""
        return {name: self.model.get_buffer(name).detach() for name in self.names}

    def saved(self) -> Tensors:
        """Return the buffers for a checkpoint.

        Raises:
            ConfigError: one has no longer the shape and dtype that it was built with, and would fit no new model.
        """
        tensors = self.tensors()
        for name, tensor in tensors.items():
            shape, dtype = self.shapes[name]
            if (tensor.shape, tensor.dtype) != (shape, dtype):
                raise ConfigError(
                    f"buffer {name}: now of shape {tuple(tensor.shape)} and {tensor.dtype}, built with {tuple(shape)} "
                    f"and {dtype}; a resumed run could not load it. Register it in its final shape; or {LEAVE_OUT}."
                )
        return tensors

    @torch.no_grad()
    def load(self, tensors: Tensors) -> None:
        """Copy tensors into the buffers.

        Raises:
            ValueError: names, shapes or dtypes are not those of the model; says which.
        """
        for name in sorted(self.names ^ tensors.keys()):
            raise ValueError(f"the buffer {name!r} is {'missing' if name in self.names else 'not of this model'}.")
        for name, buffer in self.tensors().items():
            wanted, got = ((tuple(tensor.shape), tensor.dtype) for tensor in (buffer, tensors[name]))
            if wanted != got:
                raise ValueError(
                    f"the buffer {name!r} is {got[1]} of shape {got[0]}; expected {wanted[1]} of {wanted[0]}."
                )
            tensor = tensors[name].to(buffer.device)
            if not torch.equal(bits(buffer), bits(tensor)):  # a constant may be a view that cannot be written
                buffer.copy_(tensor)

    @contextmanager
    def undone_on_error(self) -> Iterator[Callable[[], None]]:
        """Within, what an error leaves half done is undone; the function that is yielded undoes it at once."""
        before = {name: tensor.clone() for name, tensor in self.tensors().items()}
        try:
            yield lambda: self.load(before)
        except BaseException:
            self.load(before)
            raise


def persistent_buffers(model: nn.Module) -> set[str]:
    """Return the names of the persistent buffers of a model; one that modules share has the first of its names.

    Raises:
        ConfigError: a module has state that a checkpoint cannot hold; names it.
    """
    shown = model.state_dict(keep_vars=True)
    for name, item in shown.items():
        if name.endswith("_extra_state"):
            raise ConfigError(f"{name}: a checkpoint cannot hold what get_extra_state returns; keep it in a buffer.")
        if not isinstance(item, nn.Parameter) and (item.dtype not in DTYPES or item.layout is not torch.strided):
            raise ConfigError(f"buffer {name}: {item.dtype} and {item.layout} cannot be saved; {LEAVE_OUT}.")
    return {name for name, _ in model.named_buffers() if name in shown}


def bits(tensor: Tensor) -> Tensor:
    """Return the bytes of a tensor, so that NaN equals itself and 0 is not -0."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
