"""The safetensors of a folder, one file or several with an index; nothing is unpickled, no path leaves the folder."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as brief
from typing import Protocol, runtime_checkable

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from nanotx.errors import RunError
from nanotx.files import read_regular
from nanotx.hub.pickled import check_finite, read_pickled, tensors_of

WHOLE, INDEX, OLD = "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"

MOST_INDEX = 2**26
"""The most bytes of an index."""

LISTED = 100
"""The most faults in a message."""

FLOATS = {"F64", "F32", "F16", "BF16"}
"""Types of weights that are read; they become float32."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a file says of a tensor before it is read."""

    file: Path
    shape: tuple[int, ...]
    dtype: str  # as safetensors names it


@runtime_checkable
class Tensors(Protocol):
    """Tensors by name, read when they are asked for."""

    @property
    def names(self) -> set[str]:
        """Names of all tensors."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor, without reading it."""

    def is_float(self, name: str) -> bool:
        """Return whether a tensor is of floating point numbers that are read."""

    def read(self, name: str) -> Tensor:
        """Return a tensor in float32."""


def open_tensors(folder: Path) -> Tensors:
    """Return the weights of a folder: its safetensors, or where there are none, its old file of `torch.save`.

    Raises:
        RunError: there are none, or they cannot be read.
    """
    old = folder / OLD
    if old.is_file() and not (folder / WHOLE).is_file() and not (folder / INDEX).is_file():
        return tensors_of(old, read_pickled(old))
    return TensorFiles(folder)


class TensorFiles:
    """Tensors by name, read when they are asked for.

    A file is opened for each tensor anew: it is mapped into memory, and would stay there with all that was read of it.

    Raises:
        RunError: there are none, a shard is missing or damaged, or a tensor is there twice.
    """

    def __init__(self, folder: Path) -> None:
        self.headers: dict[str, Header] = {}
        twice = []
        for path in shards(folder):
            for name, header in read_headers(path):
                if name in self.headers:
                    twice.append(f"{brief(name)} in {self.headers[name].file.name} and in {path.name}")
                self.headers[name] = header
        if twice:
            raise RunError(f"{folder}: a tensor is there twice: {some(twice)}.")

    @property
    def names(self) -> set[str]:
        """Names of all tensors."""
        return set(self.headers)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor, without reading it."""
        return self.headers[name].shape

    def is_float(self, name: str) -> bool:
        """Return whether a tensor is of floating point numbers that are read."""
        return self.headers[name].dtype in FLOATS

    def read(self, name: str) -> Tensor:
        """Return a tensor in float32; one that is float32 in the file stays there until it is used.

        Raises:
            RunError: it cannot be read, or has a number that is not finite.
        """
        path = self.headers[name].file
        try:
            with safe_open(path, framework="pt") as file:
                tensor: Tensor = file.get_tensor(name).to(torch.float32)
        except (SafetensorError, OSError) as error:
            raise RunError(f"{path}: {name!r} cannot be read: {error}.") from None
        check_finite(name, tensor)
        return tensor


def read_headers(path: Path) -> Iterator[tuple[str, Header]]:
    """Yield the names and headers of the tensors of a file.

    Raises:
        RunError: it is no safetensors file that can be read.
    """
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            for name in names:
                part = file.get_slice(name)
                yield name, Header(file=path, shape=tuple(part.get_shape()), dtype=part.get_dtype())
    except (SafetensorError, OSError) as error:
        raise RunError(f"{path}: no safetensors file that can be read: {error}.") from None


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
            f"{', '.join(old[:3])}: of these only one whole {OLD} is read; convert it to {WHOLE}"
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
    faults = [f"{brief(name)}, which is not a file of this folder" for name in names if not is_file_name(name)]
    faults += [f"{name}, which is missing" for name in names if is_file_name(name) and not (folder / name).is_file()]
    if faults:
        raise RunError(f"{folder / INDEX}: names {some(faults)}.")
    return [folder / name for name in names]


def is_file_name(name: object) -> bool:
    """Return whether a name in an index is that of a file beside it, on any system."""
    return (
        isinstance(name, str)
        and Path(name).name == name
        and name not in ("", ".", "..")
        and not any(letter in name for letter in "\\:\0")
    )


def some(faults: list[str]) -> str:
    """Return faults as text, all of them or very many."""
    more = f"; and {len(faults) - LISTED:,} more" if len(faults) > LISTED else ""
    return "; ".join(faults[:LISTED]) + more
