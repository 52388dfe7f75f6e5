"""Files of `torch.save`, read as tensors and plain values; anything else is refused, and nothing is executed."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nanotx.errors import RunError

DAMAGED = (
    *(pickle.UnpicklingError, zipfile.BadZipFile, RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError),
    *(TypeError, AttributeError, AssertionError, OverflowError, MemoryError),
)
"""What the reader raises at files that are damaged, or hold what is not read."""


def read_pickled(path: Path) -> dict[str, Any]:
    """Return the dictionary in a file of `torch.save`; its tensors stay on the disk until they are used.

    Raises:
        RunError: the file cannot be read, unpacks to more than its size, or holds other values than tensors, numbers,
            strings and collections of them.
    """
    try:
        check_stored(path)
        value = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except DAMAGED as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        if "nsupported" in reason or "eights_only" in reason or "eights only" in reason:
            reason = "it holds other values than tensors, numbers and strings, which may execute code"
        raise RunError(f"{path}: cannot be read as weights: {reason}.") from None
    if not isinstance(value, dict):
        raise RunError(f"{path}: expected a dictionary of weights, got {type(value).__name__}.")
    return value


def check_stored(path: Path) -> None:
    """Raise ValueError unless a file is a zip whose members are stored as they are, so that none unpacks to more."""
    if not path.is_file():
        raise ValueError("no such file")
    if not zipfile.is_zipfile(path):
        raise ValueError("damaged, or of a version of torch before 1.6; load it there, and save it anew")
    with zipfile.ZipFile(path) as members:
        if any(member.compress_type != zipfile.ZIP_STORED for member in members.infolist()):
            raise ValueError("its members are compressed, which torch.save does not do")


class PickledTensors:
    """Tensors by name, as `TensorFiles` has them."""

    def __init__(self, path: Path, tensors: dict[str, Tensor]) -> None:
        self.path, self.tensors = path, tensors

    @property
    def names(self) -> set[str]:
        """Names of all tensors."""
        return set(self.tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor, without reading it."""
        return tuple(self.tensors[name].shape)

    def is_float(self, name: str) -> bool:
        """Return whether a tensor is of floating point numbers that are read."""
        tensor = self.tensors[name]
        return tensor.layout == torch.strided and tensor.dtype in (
            *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
        )

    def read(self, name: str) -> Tensor:
        """Return a tensor in float32.

        Raises:
            RunError: it has a number that is not finite.
        """
        tensor = self.tensors[name].to(torch.float32)
        check_finite(name, tensor)
        return tensor


def check_finite(name: str, tensor: Tensor) -> None:
    """Raise RunError if a number of a tensor is NaN or infinite; a sum tells quickly that none is."""
    if not torch.isfinite(tensor.sum()) and not torch.isfinite(tensor).all():
        raise RunError(f"{name}: a weight is NaN or infinite, and no model computes with it.")


def tensors_of(path: Path, table: Any) -> PickledTensors:
    """Return the tensors of a state dict that was read.

    Raises:
        RunError: it holds something else.
    """
    if not isinstance(table, dict) or not all(isinstance(name, str) for name in table):
        raise RunError(f"{path}: expected weights by name, got {type(table).__name__}.")
    others = [name for name, tensor in table.items() if not isinstance(tensor, Tensor)]
    if others:
        raise RunError(f"{path}: expected tensors, got others: {', '.join(others[:8])}.")
    return PickledTensors(path, {name.removeprefix("_orig_mod."): tensor for name, tensor in table.items()})
