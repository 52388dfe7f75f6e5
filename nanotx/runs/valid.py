"""Read checkpoints, which may be damaged or untrusted: one is valid only when every digest agrees."""

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
"""What every checkpoint holds."""

WEIGHTS = ("model.safetensors", "ema.safetensors")
"""Files whose numbers are all finite."""

BUFFERS = "buffers.safetensors"
"""The persistent buffers of a model that has such; they may hold any number, NaN and infinity too."""

TEXT = 2**20
"""The most bytes that a table in JSON of a run may have; ours have some thousands."""


def verify(folder: Path, needed: set[str] = NEEDED) -> set[str]:
    """The names of a folder's files, which are just what its manifest says, bit for bit, and of the step of its name.

    Raises:
        RunError: they are not, or there are not all that are needed; says which.
    """
    manifest = read_json(folder / MANIFEST)
    found = memory_info()
    most = found.limit if found is not None else INT_LIMIT
    for name, said in manifest.items():
        file = folder / name
        if Path(name).name != name or name in (".", "..") or "\\" in name or ":" in name:
            raise RunError(f"{folder}: {MANIFEST} names {name!r}, which is no file of this folder.")
        if not (isinstance(said, dict) and isinstance(said.get("bytes"), int) and isinstance(said.get("sha256"), str)):
            raise RunError(f"{folder}: {MANIFEST} is not one that nanotx wrote: {name!r} lacks its size or SHA-256.")
        if (there := size(file)) > most:
            raise RunError(f"{file}: {there:,} bytes, and this machine has {most:,} of memory; nothing could read it.")
        if there != said["bytes"] or read_digest(file) != said["sha256"]:
            raise RunError(f"{file}: the file is not the one that was saved (size or SHA-256 differ).")
    for name in sorted(needed - manifest.keys()):
        raise RunError(f"{folder}: {MANIFEST} is not one that nanotx wrote: {name!r} is missing.")
    if "trainer.json" in needed and (step := other_step(folder)) is not None:
        raise RunError(f"{folder}: it is the checkpoint of step {step}; call it step-{step}, or move it elsewhere.")
    return set(manifest)


def misnamed(step: int, path: Path) -> str:
    """Why a checkpoint's folder is passed over for its name alone; empty where nothing is wrong with that."""
    if path.name == f"step-{step}":
        return ""
    return f"{path}: nanotx calls no checkpoint so; call it step-{step} if it is of that step, or move it elsewhere."


def read_digest(file: Path) -> str:
    """SHA-256 of a file.

    Raises:
        RunError: it cannot be read.
    """
    try:
        return digest(file)
    except OSError as error:
        raise RunError(f"{file}: cannot be read: {error.strerror}.") from None


def newest(folder: Path, needed: set[str] = NEEDED) -> tuple[Path | None, list[str]]:
    """The newest checkpoint that verifies, and why each newer one was passed over."""
    passed = []
    for step, path in numbered(folder):
        if reason := misnamed(step, path):
            passed.append(reason)
            continue
        try:
            verify(path, needed)
        except RunError as error:
            if not (path.exists() or path.is_symlink()):  # a process that trains the run has removed it since
                return newest(folder, needed)
            passed.append(str(error))
        else:
            return path, passed
    return None, passed


def while_saved(read: Callable[[], T], *folders: Path) -> T:
    """What a function reads of runs' checkpoints, which other processes may save and remove meanwhile.

    Where it fails and the checkpoints are no longer those that were there, it is called again.

    Args:
        read: may be called several times.
        folders: where the checkpoints are.
    """
    while True:
        before = [[*steps(folder)] for folder in folders]
        try:
            return read()
        except (NanotxError, OSError):
            if before == [[*steps(folder)] for folder in folders]:
                raise


class Proven:
    """Checkpoints that this process has read back and found to hold; one whose files changed since is read again."""

    def __init__(self) -> None:
        self._known: dict[Path, list[tuple[str, int, int, int]]] = {}

    def add(self, path: Path) -> None:
        """Take note of a checkpoint that was read back just now."""
        self._known[path] = _marks(path)

    def __call__(self, path: Path) -> bool:
        """Whether a checkpoint verifies."""
        try:
            if self._known.get(path) != _marks(path):
                verify(path)
                self._known[path] = _marks(path)
        except (RunError, OSError):
            return False
        return True


def _marks(folder: Path) -> list[tuple[str, int, int, int]]:
    """What changes when a file of a folder does: its size, time and number on the disk."""
    stats = {path.name: path.lstat() for path in folder.iterdir()}
    return sorted((name, one.st_size, one.st_mtime_ns, one.st_ino) for name, one in stats.items())


def size(file: Path) -> int:
    """How many bytes a plain file has.

    Raises:
        RunError: it is missing, or it is no plain file (a link may lead anywhere, a pipe never ends).
    """
    try:
        found = file.lstat()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise RunError(f"{file}: cannot be read: {reason}.") from None
    if not stat.S_ISREG(found.st_mode):
        raise RunError(f"{file}: expected a plain file, got a link, a folder or a device.")
    return found.st_size


def count(file: Path, without: str | None = None) -> int:
    """Return how many numbers the tensors of a safetensors file hold, by its header; no tensor is read.

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
                one = 1
                for side in opened.get_slice(name).get_shape():
                    one *= side
                total += one
    except (OSError, RuntimeError, SafetensorError) as error:
        raise RunError(f"{file}: cannot be read as safetensors: {error}.") from None
    return total


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        RunError: the file is missing or is not one, or holds weights that are NaN or infinity, or an optimizer's
            state that is NaN.
    """
    size(file)
    try:
        tensors = load_file(file)
    except (OSError, RuntimeError, SafetensorError, KeyError, ValueError) as error:  # also numbers that torch has not
        raise RunError(f"{file}: cannot be read as safetensors: {error}.") from None
    for name, tensor in tensors.items():
        tensor = wide(tensor)
        if file.name not in (*WEIGHTS, BUFFERS) and has_nan(tensor):
            raise RunError(
                f"{file}: {name} is not a number in {int(tensor.isnan().sum()):,} of {tensor.numel():,} places, though "
                "the digest is right. Nanotx saves no such state of an optimizer; resume from an earlier checkpoint: "
                f"move {file.parent} out of its folder."
            )
        if file.name in WEIGHTS and not torch.isfinite(tensor).all():
            raise RunError(
                f"{file}: the weights of {name} are not finite: {int((~torch.isfinite(tensor)).sum()):,} of "
                f"{tensor.numel():,} numbers are NaN or infinity, though the digest is right. Nanotx saves no such "
                "weights; try an earlier checkpoint by --step."
            )
    return tensors


def has_nan(tensor: Tensor) -> bool:
    """Return whether a number of a tensor is NaN."""
    return bool(wide(tensor).isnan().any())


def wide(tensor: Tensor) -> Tensor:
    """Return a tensor in a dtype for which PyTorch has all operations."""
    return tensor.float() if tensor.dtype.itemsize == 1 else tensor


def read_json(file: Path) -> dict[str, Any]:
    """The table of a JSON file.

    Raises:
        RunError: the file is missing, is larger than any that nanotx writes, or holds no table.
    """
    if size(file) > TEXT:
        raise RunError(f"{file}: {size(file):,} bytes; nanotx writes no such file of more than {TEXT:,}.")
    try:
        table = json.loads(read_regular(file, TEXT).decode("utf-8"))
    except OSError as error:
        raise RunError(f"{file}: cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise RunError(f"{file}: this is not JSON: {error}.") from None
    if not isinstance(table, dict):
        raise RunError(f"{file}: expected a table, got {type(table).__name__}.")
    return table
