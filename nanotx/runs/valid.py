"""Read checkpoints, which may be damaged or untrusted: a checkpoint is valid only if every digest matches."""

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from nanotx.config.schema import INT_LIMIT
from nanotx.errors import NanotxError, RunError
from nanotx.files import read_regular
from nanotx.hardware.cgroup import memory_info
from nanotx.runs.checkpoint import MANIFEST, digest, numbered, other_step, steps

T = TypeVar("T")

NEEDED = {"model.safetensors", "optimizer.safetensors", "trainer.json", "recipe.toml", "tokenizer.json"}
"""Files of every checkpoint."""

WEIGHTS = ("model.safetensors", "ema.safetensors")
"""Files that must hold finite numbers only."""

BUFFERS = "buffers.safetensors"
"""The persistent buffers of a model that has such; they may hold any number, NaN and infinity too."""

TEXT = 2**20
"""Maximal size of a JSON file of a run in bytes; nanotx writes a few thousand."""


def verify(folder: Path, needed: set[str] = NEEDED) -> set[str]:
    """Check that the files of a checkpoint match its manifest and that its step matches its name; return their names.

    Raises:
        RunError: a file differs, or a needed one is missing; says which.
    """
    manifest = read_json(folder / MANIFEST)
    memory = memory_info()
    most = memory.limit if memory is not None else INT_LIMIT
    for name, entry in manifest.items():
        file = folder / name
        if Path(name).name != name or name in (".", "..") or "\\" in name or ":" in name:
            raise RunError(f"{folder}: {MANIFEST} names {name!r}, which is not a file of this folder.")
        if not (
            isinstance(entry, dict) and isinstance(entry.get("bytes"), int) and isinstance(entry.get("sha256"), str)
        ):
            raise RunError(f"{folder}: {MANIFEST} is not one that nanotx wrote: {name!r} lacks its size or SHA-256.")
        if (length := size(file)) > most:
            raise RunError(
                f"{file}: {length:,} bytes, and this machine has {most:,} of memory; it cannot be read here."
            )
        if length != entry["bytes"] or read_digest(file) != entry["sha256"]:
            raise RunError(f"{file}: the file is not the one that was saved (size or SHA-256 differ).")
    for name in sorted(needed - manifest.keys()):
        raise RunError(f"{folder}: {MANIFEST} is not one that nanotx wrote: {name!r} is missing.")
    if "trainer.json" in needed and (step := other_step(folder)) is not None:
        raise RunError(
            f"{folder}: it is the checkpoint of step {step}; rename it to step-{step}, or move it to another folder."
        )
    return set(manifest)


def misnamed(step: int, path: Path) -> str:
    """Return why the name of a checkpoint's folder is wrong; "" if it is right."""
    if path.name == f"step-{step}":
        return ""
    return f"{path}: not a name of a checkpoint; rename it to step-{step} if it is of that step, or move it away."


def read_digest(file: Path) -> str:
    """Return the SHA-256 digest of a file.

    Raises:
        RunError: it cannot be read.
    """
    try:
        return digest(file)
    except OSError as error:
        raise RunError(f"{file}: cannot be read: {error.strerror}.") from None


def newest(folder: Path, needed: set[str] = NEEDED) -> tuple[Path | None, list[str]]:
    """Return the newest checkpoint that verifies, and why each newer one was skipped."""
    skipped = []
    for step, path in numbered(folder):
        if reason := misnamed(step, path):
            skipped.append(reason)
            continue
        try:
            verify(path, needed)
        except RunError as error:
            if not (path.exists() or path.is_symlink()):  # a process that trains the run has removed it since
                return newest(folder, needed)
            skipped.append(str(error))
        else:
            return path, skipped
    return None, skipped


def while_saved(read: Callable[[], T], *folders: Path) -> T:
    """Call a function that reads checkpoints while other processes may save and remove them; return its result.

    If it fails and the list of checkpoints has changed meanwhile, it is called again.

    Args:
        read: the function; it may be called several times.
        folders: the folders of the checkpoints.
    """
    while True:
        before = [[*steps(folder)] for folder in folders]
        try:
            return read()
        except (NanotxError, OSError):
            if before == [[*steps(folder)] for folder in folders]:
                raise


class Proven:
    """The checkpoints that this process has verified; one whose files have changed is verified again."""

    def __init__(self) -> None:
        self._known: dict[Path, list[tuple[str, int, int, int]]] = {}

    def add(self, path: Path) -> None:
        """Record a checkpoint that has just been verified."""
        self._known[path] = _marks(path)

    def __call__(self, path: Path) -> bool:
        """Return whether a checkpoint verifies."""
        try:
            if self._known.get(path) != _marks(path):
                verify(path)
                self._known[path] = _marks(path)
        except (RunError, OSError):
            return False
        return True


def _marks(folder: Path) -> list[tuple[str, int, int, int]]:
    """Return size, time and inode of each file of a folder, which change when a file does."""
    stats = {path.name: path.lstat() for path in folder.iterdir()}
    return sorted((name, status.st_size, status.st_mtime_ns, status.st_ino) for name, status in stats.items())


def size(file: Path) -> int:
    """Return the size of a regular file in bytes.

    Raises:
        RunError: it is missing, or not a regular file (a link may lead anywhere, a pipe never ends).
    """
    try:
        status = file.lstat()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise RunError(f"{file}: cannot be read: {reason}.") from None
    if not stat.S_ISREG(status.st_mode):
        raise RunError(f"{file}: expected a regular file, got a link, a folder or a device.")
    return status.st_size


def count(file: Path, without: str | None = None) -> int:
    """Return the number of elements in a safetensors file according to its header; no tensor is read.

    Args:
        file: the safetensors file.
        without: a prefix; tensors whose names begin with it are not counted.

    Raises:
        RunError: the file is missing or is not one.
    """
    size(file)
    total = 0
    try:
        with safe_open(file, "pt") as opened:
            for name in opened.keys():  # noqa: SIM118  it is no dict
                if without is not None and name.startswith(without):
                    continue
                elements = 1
                for side in opened.get_slice(name).get_shape():
                    elements *= side
                total += elements
    except (OSError, RuntimeError, SafetensorError) as error:
        raise RunError(f"{file}: cannot be read as safetensors: {error}.") from None
    return total


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file.

    Raises:
        RunError: the file is missing or is not one, or holds weights that are NaN or infinity, or an optimizer's
            state that is NaN.
    """
    size(file)
    try:
        tensors = load_file(file)
    except (
        OSError,
        RuntimeError,
        SafetensorError,
        KeyError,
        ValueError,
    ) as error:  # KeyError: a dtype that torch does not have
        raise RunError(f"{file}: cannot be read as safetensors: {error}.") from None
    for name, tensor in tensors.items():
        tensor = wide(tensor)
        if file.name not in (*WEIGHTS, BUFFERS) and has_nan(tensor):
            raise RunError(
                f"{file}: {name} is not a number in {int(tensor.isnan().sum()):,} of {tensor.numel():,} places, though "
                "the digest matches. nanotx never saves such an optimizer state. To resume from an earlier checkpoint, "
                f"move {file.parent} to another folder."
            )
        if file.name in WEIGHTS and not all_finite(tensor):
            raise RunError(
                f"{file}: the weights of {name} are not finite: {int((~torch.isfinite(tensor)).sum()):,} of "
                f"{tensor.numel():,} numbers are NaN or infinity, though the digest matches. nanotx never saves such "
                "weights; try an earlier checkpoint with --step."
            )
    return tensors


def has_nan(tensor: Tensor) -> bool:
    """Return whether a number of a tensor is NaN."""
    return bool(extremes(tensor).isnan().any())


def all_finite(tensor: Tensor) -> bool:
    """Return whether all numbers of a tensor are finite."""
    return bool(extremes(tensor).isfinite().all())


def extremes(tensor: Tensor) -> Tensor:
    """Return a tensor's least and largest number, both NaN where one is NaN; of complex numbers all, of none none.

    It takes a fifth of the time of `isnan`, and no memory for what that returns of each number.
    """
    tensor = wide(tensor)
    if tensor.is_complex() or not tensor.numel():
        return tensor
    return torch.stack(torch.aminmax(tensor))


def wide(tensor: Tensor) -> Tensor:
    """Return a tensor in a dtype for which PyTorch has all operations."""
    return tensor.float() if tensor.dtype.itemsize == 1 else tensor


def read_json(file: Path) -> dict[str, Any]:
    """Return the table in a JSON file.

    Raises:
        RunError: the file is missing, is larger than any that nanotx writes, or does not hold a table.
    """
    if size(file) > TEXT:
        raise RunError(f"{file}: {size(file):,} bytes; nanotx never writes more than {TEXT:,}.")
    try:
        table = json.loads(read_regular(file, TEXT).decode("utf-8"))
    except OSError as error:
        raise RunError(f"{file}: cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise RunError(f"{file}: not JSON: {error}.") from None
    if not isinstance(table, dict):
        raise RunError(f"{file}: expected a table, got {type(table).__name__}.")
    return table
