"""The safetensors of a folder, one file or several with an index; nothing is unpickled, no path leaves the folder."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from reprlib import repr as brief
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from nanotx.errors import RunError
from nanotx.files import read_regular

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"

MOST_INDEX = 2**26
"""The most bytes of an index."""

FLOATS = {"F64", "F32", "F16", "BF16"}
"""Types of weights that are read; they become float32."""


class TensorFiles:
    """Tensors by name, read when they are asked for."""

    def __init__(self, files: dict[str, Any]) -> None:
        self.files = files  # the open file of each tensor

    @property
    def names(self) -> set[str]:
        """Names of all tensors."""
        return set(self.files)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor, without reading it."""
        return tuple(self.files[name].get_slice(name).get_shape())

    def is_float(self, name: str) -> bool:
        """Return whether a tensor is of floating point numbers that are read."""
        return self.files[name].get_slice(name).get_dtype() in FLOATS

    def read(self, name: str) -> Tensor:
        """Return a tensor in float32.

        Raises:
            RunError: it has a number that is not finite.
        """
        tensor: Tensor = self.files[name].get_tensor(name).float()
        if not torch.isfinite(tensor).all():
            raise RunError(f"{name}: a weight is NaN or infinite, and no model computes with it.")
        return tensor


@contextmanager
def open_tensors(folder: Path) -> Iterator[TensorFiles]:
    """Open the weights of a folder.

    Raises:
        RunError: there are none, a shard is missing or damaged, or a tensor is there twice.
    """
    paths = shards(folder)
    with ExitStack() as stack:
        files: dict[str, Any] = {}
        for path in paths:
            try:
                file = stack.enter_context(safe_open(path, framework="pt"))
                names = list(file.keys())
            except (SafetensorError, OSError) as error:
                raise RunError(f"{path}: no safetensors file that can be read: {error}.") from None
            for name in names:
                if name in files:
                    raise RunError(f"{path}: {name!r} is in another shard too.")
                files[name] = file
        yield TensorFiles(files)


def shards(folder: Path) -> list[Path]:
    """Return the files of the weights; one whole file comes before an index, as transformers has it.

    Raises:
        RunError: there are none, or the index names what is not a file of the folder.
    """
    if (folder / WHOLE).is_file():
        return [folder / WHOLE]
    if not (folder / INDEX).is_file():
        old = [path.name for path in sorted(folder.glob("*.bin"))] if folder.is_dir() else []
        why = (
            f"{', '.join(old[:3])} can execute code when it is read; convert it, where you trust it, to {WHOLE}"
            if old
            else f"expected {WHOLE} or {INDEX}"
        )
        raise RunError(f"{folder}: no weights that nanotx reads: {why}.")
    try:
        index = json.loads(read_regular(folder / INDEX, MOST_INDEX))
        names = sorted(set(index["weight_map"].values()))
    except OSError as error:
        raise RunError(f"{folder / INDEX}: cannot be read: {error.strerror}.") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise RunError(f"{folder / INDEX}: no index of shards: expected a weight_map of names and files.") from None
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or name in ("", ".", "..") or "\\" in name:
            raise RunError(f"{folder / INDEX}: names {brief(name)}, which is not a file of this folder.")
        if not (folder / name).is_file():
            raise RunError(f"{folder / INDEX}: names {name}, which is missing.")
    return [folder / name for name in names]
