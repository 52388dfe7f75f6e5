"""Write checkpoints: folders that appear complete or not at all. `valid.py` reads and verifies them.

A folder is written under a temporary name, each file is flushed to the disk, a manifest of sizes and SHA-256 digests
is written last, then the folder is renamed. Tensors are safetensors, everything else is text; nothing is executed.

This module writes whatever files it is given; `trainer_state.save` decides which ones a checkpoint holds:

- `model.safetensors`: the weights, in the canonical layout
- `optimizer.safetensors`: the tensors of the optimizer's state
- `ema.safetensors`: the averaged weights, if the run averages them (`train.ema_decay`)
- `buffers.safetensors`: the persistent buffers, if the model has any
- `trainer.json`: the progress, the rest of the optimizer's state, the loss scaler, the digests of corpus and tokenizer
- `recipe.toml` and `tokenizer.json`
- `MANIFEST.json`, which is added here
"""

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Set
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from nanotx import disk
from nanotx.config.schema import INT_LIMIT
from nanotx.errors import RunError
from nanotx.files import DESKTOP_FILES, is_left, open_regular, read_regular, unused_path

UNWRITTEN = "the checkpoint cannot be written"
"""What the error says where the disk refuses a checkpoint; the metrics log has it as a warning."""

MANIFEST = "MANIFEST.json"
MOST_ALLOCATED = 2**30
"""Maximal number of bytes that a probe allocates; some disks have to write them."""
MOST_LISTED = 2**20
"""Maximal size of a manifest or trainer.json in bytes; nanotx writes a few thousand."""
UNNUMBERED = re.compile(r"\.step-[0-9]+(\.old)?")
"""Name of a checkpoint whose removal was interrupted; only the process that holds the run's lock removes it."""
Content = str | dict[str, Tensor]


def write_atomic(
    folder: Path, files: dict[str, Content], publishing: AbstractContextManager[object] | None = None
) -> None:
    """Write a folder of texts and tensors so that it appears complete or not at all.

    Args:
        folder: its name.
        files: the contents of its files.
        publishing: a context in which the folder gets its name.

    Raises:
        RunError: the disk refused, or `publishing` did; nothing new is left under the folder's name.
    """
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    old = temporary.with_name(f"{temporary.name}.old")
    try:
        disk.remove(temporary)
        disk.make(temporary)
        for name, content in files.items():
            disk.write(temporary / name, content.encode("utf-8") if isinstance(content, str) else in_tensors(content))
            disk.sync(temporary / name)
            check_written(temporary / name, content)
        manifest = {
            name: {"bytes": (temporary / name).stat().st_size, "sha256": digest(temporary / name)} for name in files
        }
        disk.write(temporary / MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode("utf-8"))
        disk.sync(temporary / MANIFEST)
        disk.sync(temporary)
        with publishing or nullcontext():
            if folder.exists() or folder.is_symlink():  # one that did not verify and was passed over, or is saved again
                own = other_step(folder) is None and holds_only(folder, {MANIFEST, *files} | listed(folder))
                disk.rename(folder, old if own else unused_path(folder))
            disk.rename(temporary, folder)
        disk.sync(folder.parent)
        disk.sync(folder.parent.parent)
        disk.remove(old)
    except RunError:
        with suppress(OSError):
            disk.remove(temporary)
        raise
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            disk.remove(temporary)
        raise RunError(
            f"{folder}: {UNWRITTEN}: {error}; earlier ones are untouched. "
            f"{room(folder.parent, sum(map(length, files.values())))} Free some space, or repair the folder."
        ) from None


def length(content: Content) -> int:
    """Return the minimal size of a text or of tensors in bytes."""
    return (
        len(content.encode("utf-8")) if isinstance(content, str) else sum(tensor.nbytes for tensor in content.values())
    )


def room(folder: Path, needed: int) -> str:
    """Describe how many bytes a checkpoint needs, how many are free, and which old checkpoints could be removed."""
    text = f"It needs {needed:,} bytes"
    existing = next((path for path in (folder, *folder.parents) if path.exists()), None)
    with suppress(OSError):
        text += f", and {shutil.disk_usage(existing or '.').free:,} are free"
    with suppress(OSError, RunError):
        older = list(steps(folder).values())[1:]
        sizes = [sum(file.lstat().st_size for file in path.iterdir()) for path in older]
        if older:
            text += f"; old checkpoints take {sum(sizes):,}: {', '.join(path.name for path in older)}"
    return f"{text}."


def probe(folder: Path, needed: int) -> None:
    """Check that a checkpoint can be written, before the first step.

    Args:
        folder: the folder of the checkpoints; it need not exist yet.
        needed: the minimal size of a checkpoint in bytes.

    Raises:
        RunError: the folder cannot be written, or the disk has too little space.
    """
    temporary = (folder if folder.exists() else folder.parent) / f".step-probe.{os.getpid()}"
    try:
        disk.write(temporary, partial(allocate, size=needed))
        disk.sync(temporary)
    except OSError as error:
        raise RunError(
            f"{folder}: a checkpoint cannot be written there: {error.strerror or error}. {room(folder, needed)} "
            "No step was taken. Free some space, repair the folder, or try another --run."
        ) from None
    finally:
        with suppress(OSError):
            disk.remove(temporary)


def allocate(file: Path, size: int) -> None:
    """Allocate a file of this size, or of 4,096 bytes if the disk cannot allocate without writing.

    Raises:
        OSError: the disk is full, or a quota is reached.
    """
    with file.open("wb") as stream:
        stream.write(bytes(min(size, 4096)))
        stream.flush()
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(stream.fileno(), 0, min(size, MOST_ALLOCATED))
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                    raise


def check_written(file: Path, content: Content) -> None:
    """Raise OSError unless a file, read back, equals its content bit for bit."""
    if isinstance(content, str):
        same = file.read_bytes() == content.encode("utf-8")
    else:
        try:
            with safe_open(file, "pt") as opened:
                same = set(opened.keys()) == content.keys() and all(
                    np.array_equal(bits(opened.get_tensor(name)), bits(tensor)) for name, tensor in content.items()
                )
        except RuntimeError as error:  # safetensors raises it for errors of the system, such as too many open files
            raise OSError(errno.EIO, str(error), str(file)) from None
    if not same:
        raise OSError(errno.EIO, "what was read back is not what was written", str(file))


INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Integers by their size in bytes."""


def bits(tensor: Tensor) -> "np.ndarray[Any, np.dtype[Any]]":
    """Return the bits of a tensor's elements as integers.

    NumPy compares them in one thread; PyTorch would take some from the steps that go on meanwhile.
    """
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(INTEGERS[flat.dtype.itemsize]).numpy()


def copied(files: dict[str, Content], live: Set[int]) -> dict[str, Content]:
    """Return the contents of files in memory of the CPU that no step changes.

    The copy is complete on return; that of a GPU's tensors is in page-locked memory, to which it copies faster.

    Args:
        files: their contents.
        live: the memory that a step changes, by `address`; a tensor that has none of it is not copied.
    """
    contents: dict[str, Content] = {
        name: content
        if isinstance(content, str)
        else {key: copy(tensor) if must_copy(tensor, live) else tensor for key, tensor in content.items()}
        for name, content in files.items()
    }
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return contents


def must_copy(tensor: Tensor, live: Set[int]) -> bool:
    """Return whether a step changes the memory of a tensor, or it is not contiguous in the memory of the CPU."""
    return tensor.device.type != "cpu" or address(tensor) in live or not tensor.is_contiguous()


def address(tensor: Tensor) -> int:
    """Return the address of the memory that a tensor and all its views share."""
    return tensor.untyped_storage().data_ptr()


def copy(tensor: Tensor) -> Tensor:
    """Return a contiguous copy of a tensor in the memory of the CPU; complete after the next synchronisation."""
    on_gpu = tensor.device.type == "cuda"
    target = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=on_gpu)
    return target.copy_(tensor.detach(), non_blocking=on_gpu)


def in_tensors(content: dict[str, Tensor]) -> disk.Content:
    """Return a function that writes tensors as safetensors."""
    return partial(save_file, {key: tensor.contiguous() for key, tensor in content.items()}, metadata={"format": "pt"})


def steps(folder: Path) -> dict[int, Path]:
    """Return the checkpoints in a folder by step, newest first; they are not verified.

    Raises:
        RunError: as for `numbered`.
    """
    return {step: path for step, path in numbered(folder) if path.name == f"step-{step}"}


def numbered(folder: Path) -> list[tuple[int, Path]]:
    """Return the checkpoints in a folder, including names that nanotx does not write, such as `step-007`.

    Raises:
        RunError: the folder exists and cannot be read, or it is a dangling link.
    """
    try:
        names = [path.name for path in folder.iterdir()]
    except FileNotFoundError:
        if folder.is_symlink():
            raise RunError(
                f"{folder}: a link to {str(folder.readlink())!r}, which does not exist; restore it."
            ) from None
        names = []
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise RunError(f"{folder}: cannot be read: {reason}; make it a folder that can be listed.") from None
    folders = {name.removeprefix("step-"): folder / name for name in names if name.startswith("step-")}
    known = ((int(step), path) for step, path in folders.items() if step.isdecimal() and step.isascii())
    return sorted(known, reverse=True)


def prune(folder: Path, keep: int, best: int, newest: int, sound: Callable[[Path], bool] = Path.is_dir) -> list[Path]:
    """Remove the checkpoints that are no longer needed; errors of the disk are ignored.

    Return those that are no longer needed but kept, because they hold files that nanotx did not write.

    Args:
        folder: the folder of the checkpoints.
        keep: number of valid checkpoints to keep, counted from the newest.
        best: the step of a checkpoint to keep.
        newest: the step just saved; checkpoints of later steps did not verify and are kept for inspection.
        sound: returns whether a checkpoint verifies; one that does not is not counted.
    """
    held, doomed, foreign = 0, list[Path](), list[Path]()
    for path in [path for step, path in steps(folder).items() if step <= newest]:
        if held == keep:
            if path.name != f"step-{best}":
                (doomed if is_published(path) else foreign).append(path)
        else:
            held += sound(path)
    for path in [*temporaries(folder, sound), *doomed]:
        with suppress(OSError):
            temporary = path.with_name(
                f".{path.name.removeprefix('.')}"
            )  # a partly removed checkpoint must not keep its name
            if temporary != path:
                disk.rename(path, temporary)
            disk.remove(temporary)
    return foreign


def is_published(folder: Path) -> bool:
    """Return whether a path is a folder that `write_atomic` wrote and to which no file was added."""
    names = listed(folder)
    return MANIFEST in names and other_step(folder) is None and holds_only(folder, names)


def other_step(folder: Path) -> int | None:
    """Return the step recorded in a checkpoint if it differs from the one in the folder's name, else None."""
    try:
        step = json.loads(read_regular(folder / "trainer.json", MOST_LISTED))["progress"]["step"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    if not isinstance(step, int) or isinstance(step, bool) or not 0 <= step < INT_LIMIT:  # nanotx writes no such step
        return None
    return step if folder.name != f"step-{step}" else None


def listed(folder: Path) -> set[str]:
    """Return the names of the manifest and of the files it lists; an empty set if it cannot be read."""
    try:
        manifest = json.loads(read_regular(folder / MANIFEST, MOST_LISTED))
    except (OSError, ValueError, RecursionError):
        return set()
    return {MANIFEST, *manifest} if isinstance(manifest, dict) else set()


def holds_only(folder: Path, names: set[str]) -> bool:
    """Return whether a path is a folder that holds only regular files with these names or of a file manager."""
    try:
        if folder.is_symlink():
            return False
        with os.scandir(folder) as entries:
            return all(
                (entry.name in names or entry.name in DESKTOP_FILES) and entry.is_file(follow_symlinks=False)
                for entry in entries
            )
    except OSError:
        return False


def temporaries(folder: Path, sound: Callable[[Path], bool] = Path.is_dir) -> list[Path]:
    """Return temporary files of dead processes: checkpoints partly written, replaced or removed, and probes.

    Args:
        folder: the folder of the checkpoints, or the run's folder if there are none yet.
        sound: returns whether a checkpoint verifies; a replaced checkpoint is kept until its successor does.
    """
    paths = []
    for path in folder.glob(".step-*"):
        step = UNNUMBERED.fullmatch(path.name)
        if not (step or is_left(path)):
            continue
        if not path.name.endswith(".old") or sound(folder / path.name.removeprefix(".").partition(".")[0]):
            paths.append(path)
    return paths


def clear_temporary(*folders: Path, sound: Callable[[Path], bool] = Path.is_dir) -> None:
    """Remove the temporary files of dead processes; errors of the disk are ignored."""
    for path in [path for folder in folders for path in temporaries(folder, sound)]:
        with suppress(OSError):
            disk.remove(path)


def digest(file: Path) -> str:
    """Return the SHA-256 digest of a file."""
    with open_regular(file) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
