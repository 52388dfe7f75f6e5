"""Checkpoints: folders published whole or not at all. What is believed of them: `verified.py`.

A folder is written under a temporary name, each file flushed to the disk, a manifest of sizes and SHA-256
digests written last, then renamed. Tensors are safetensors, all else is text; nothing in it is ever executed.
"""

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from nanotx import disk
from nanotx.config.schema import INT_LIMIT
from nanotx.errors import RunError
from nanotx.files import DESKTOP_FILES, is_left, open_regular, read_regular, unused_path

MANIFEST = "MANIFEST.json"
MOST_ALLOCATED = 2**30
"""Bytes that a probe takes at most; some disks have to write them."""
MOST_LISTED = 2**20
"""Bytes of a manifest or a trainer.json at most; ours have some thousands."""
UNNUMBERED = re.compile(r"\.step-[0-9]+(\.old)?")
"""What a kill leaves of a removed checkpoint, or of a replaced one in an older nanotx; the run's lock guards it."""
Content = str | dict[str, Tensor]


def write_atomic(folder: Path, files: dict[str, Content]) -> None:
    """Write a folder of texts and tensors so that it appears complete or not at all.

    Raises:
        RunError: the disk refused; nothing new is left under the folder's name.
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
        if folder.exists() or folder.is_symlink():  # one that did not verify and was passed over, or is saved again
            own = other_step(folder) is None and holds_only(folder, {MANIFEST, *files} | listed(folder))
            disk.rename(folder, old if own else unused_path(folder))
        disk.rename(temporary, folder)
        disk.sync(folder.parent)
        disk.sync(folder.parent.parent)
        disk.remove(old)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            disk.remove(temporary)
        raise RunError(
            f"{folder}: the checkpoint cannot be written: {error}; earlier ones are untouched. "
            f"{room(folder.parent, sum(map(length, files.values())))} Make room, or mend the folder."
        ) from None


def length(content: Content) -> int:
    """The bytes of a text or of tensors, at least."""
    return len(content.encode("utf-8")) if isinstance(content, str) else sum(one.nbytes for one in content.values())


def room(folder: Path, needed: int) -> str:
    """How many bytes a checkpoint needs and how many are free, and which older ones could be removed."""
    said = f"It needs {needed:,} bytes"
    there = next((path for path in (folder, *folder.parents) if path.exists()), None)
    with suppress(OSError):
        said += f", and {shutil.disk_usage(there or '.').free:,} are free there"
    with suppress(OSError, RunError):
        older = list(steps(folder).values())[1:]
        sizes = [sum(file.lstat().st_size for file in path.iterdir()) for path in older]
        if older:
            said += f"; older checkpoints hold {sum(sizes):,}: {', '.join(path.name for path in older)}"
    return f"{said}."


def probe(folder: Path, needed: int) -> None:
    """Check that a checkpoint could be written, before any step is taken.

    Args:
        folder: where checkpoints are to be; it need not exist yet.
        needed: the bytes of one of them, at least.

    Raises:
        RunError: the folder cannot be written, or its disk has not so many bytes.
    """
    temporary = (folder if folder.exists() else folder.parent) / f".step-probe.{os.getpid()}"
    try:
        disk.write(temporary, partial(allocate, size=needed))
        disk.sync(temporary)
    except OSError as error:
        raise RunError(
            f"{folder}: no checkpoint could be written there: {error.strerror or error}. {room(folder, needed)} "
            "Nothing was trained; make room, mend the folder, or try another --run."
        ) from None
    finally:
        with suppress(OSError):
            disk.remove(temporary)


def allocate(file: Path, size: int) -> None:
    """Have the disk give a file so many bytes, or 4,096 where it cannot without writing them.

    Raises:
        OSError: it has not so many, or this user may not have them.
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
    """Raise OSError unless a file, read back, holds what was to be written, bit for bit."""
    if isinstance(content, str):
        same = file.read_bytes() == content.encode("utf-8")
    else:
        try:
            with safe_open(file, "pt") as opened:
                same = set(opened.keys()) == content.keys() and all(
                    bits(opened.get_tensor(name)).equal(bits(tensor)) for name, tensor in content.items()
                )
        except RuntimeError as error:  # what the library makes of a system's refusal, such as too many open files
            raise OSError(errno.EIO, str(error), str(file)) from None
    if not same:
        raise OSError(errno.EIO, "what was read back is not what was written", str(file))


def bits(tensor: Tensor) -> Tensor:
    """The bytes of a tensor, on the CPU."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)


def in_tensors(content: dict[str, Tensor]) -> disk.Content:
    """What writes tensors as safetensors."""
    return partial(save_file, {key: tensor.contiguous() for key, tensor in content.items()}, metadata={"format": "pt"})


def steps(folder: Path) -> dict[int, Path]:
    """The published checkpoints of a run's folder by step, the newest first; no claim that they verify.

    Raises:
        RunError: as `numbered`.
    """
    return {step: path for step, path in numbered(folder) if path.name == f"step-{step}"}


def numbered(folder: Path) -> list[tuple[int, Path]]:
    """As `steps`, with those beside them whose names nanotx does not write, such as `step-007`.

    Raises:
        RunError: the folder is there and cannot be read, or it is a link that leads nowhere.
    """
    try:
        names = [path.name for path in folder.iterdir()]
    except FileNotFoundError:
        if folder.is_symlink():
            raise RunError(
                f"{folder}: a link to {str(folder.readlink())!r}, which is not there; bring it back."
            ) from None
        names = []
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise RunError(f"{folder}: cannot be read: {reason}; make it a folder that can be listed.") from None
    found = {name.removeprefix("step-"): folder / name for name in names if name.startswith("step-")}
    known = ((int(step), path) for step, path in found.items() if step.isdecimal() and step.isascii())
    return sorted(known, reverse=True)


def prune(folder: Path, keep: int, best: int, newest: int, sound: Callable[[Path], bool] = Path.is_dir) -> list[Path]:
    """Remove what is no longer needed: a disk that refuses only keeps more.

    Returns what is no longer needed and stays all the same, because it holds more than nanotx saved there.

    Args:
        folder: where checkpoints are.
        keep: how many that are sound stay, counted back from the newest.
        best: the step of one that stays.
        newest: the step just saved; what is of a later one did not verify, and stays to be looked at.
        sound: whether a checkpoint, read back, is what was saved; one that is not counts for nothing.
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
            temporary = path.with_name(f".{path.name.removeprefix('.')}")  # no half of one is left under its name
            if temporary != path:
                disk.rename(path, temporary)
            disk.remove(temporary)
    return foreign


def is_published(folder: Path) -> bool:
    """Return whether a path is a folder that `write_atomic` wrote, and to which nothing was added since."""
    names = listed(folder)
    return MANIFEST in names and other_step(folder) is None and holds_only(folder, names)


def other_step(folder: Path) -> int | None:
    """The step of which a checkpoint says that it is, where that is not the one in its folder's name."""
    try:
        step = json.loads(read_regular(folder / "trainer.json", MOST_LISTED))["progress"]["step"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    if not isinstance(step, int) or isinstance(step, bool) or not 0 <= step < INT_LIMIT:  # nanotx writes no such step
        return None
    return step if folder.name != f"step-{step}" else None


def listed(folder: Path) -> set[str]:
    """The names of the files that a checkpoint's manifest lists, and its own; none where it cannot be read."""
    try:
        manifest = json.loads(read_regular(folder / MANIFEST, MOST_LISTED))
    except (OSError, ValueError, RecursionError):
        return set()
    return {MANIFEST, *manifest} if isinstance(manifest, dict) else set()


def holds_only(folder: Path, names: set[str]) -> bool:
    """Whether something is a folder, and all that it holds are plain files of these names, or of a file manager."""
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
    """What processes that are dead left of writing, replacing and removing checkpoints, and of probing the disk.

    Args:
        folder: where checkpoints are, or the run's own folder, in which they are yet to be made.
        sound: whether a checkpoint is what was saved; what a save replaced stays until its successor is.
    """
    found = []
    for path in folder.glob(".step-*"):
        step = UNNUMBERED.fullmatch(path.name)
        if not (step or is_left(path)):
            continue
        if not path.name.endswith(".old") or sound(folder / path.name.removeprefix(".").partition(".")[0]):
            found.append(path)
    return found


def clear_temporary(*folders: Path, sound: Callable[[Path], bool] = Path.is_dir) -> None:
    """Remove what processes that are dead left of writing checkpoints; a disk that refuses only keeps more."""
    for path in [path for folder in folders for path in temporaries(folder, sound)]:
        with suppress(OSError):
            disk.remove(path)


def digest(file: Path) -> str:
    """SHA-256 of a file."""
    with open_regular(file) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
