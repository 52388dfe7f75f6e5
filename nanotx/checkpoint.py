"""Checkpoints: folders published whole or not at all. What is believed of them: `verified.py`.

A folder is written under a temporary name, each file flushed to the disk, a manifest of sizes and SHA-256
digests written last, then renamed. Tensors are safetensors, all else is text; nothing in it is ever executed.
"""

import hashlib
import json
import os
from contextlib import suppress
from functools import partial
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from nanotx import disk
from nanotx.errors import RunError

MANIFEST = "MANIFEST.json"
FORMAT = 2
Content = str | dict[str, Tensor]


def publish(folder: Path, files: dict[str, Content]) -> None:
    """Write a folder of texts and tensors so that it appears complete or not at all.

    Raises:
        RunError: the disk refused; nothing new is left under the folder's name.
    """
    draft = folder.with_name(f".{folder.name}.{os.getpid()}")
    old = draft.with_suffix(".old")
    try:
        disk.remove(draft)
        disk.make(draft)
        for name, content in files.items():
            disk.write(draft / name, content.encode("utf-8") if isinstance(content, str) else in_tensors(content))
            disk.sync(draft / name)
        manifest = {name: {"bytes": (draft / name).stat().st_size, "sha256": digest(draft / name)} for name in files}
        disk.write(draft / MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode("utf-8"))
        disk.sync(draft / MANIFEST)
        disk.sync(draft)
        if folder.exists():  # one that did not verify, and was passed over
            disk.rename(folder, old)
        disk.rename(draft, folder)
        disk.sync(folder.parent)
        disk.sync(folder.parent.parent)
        disk.remove(old)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            disk.remove(draft)
        raise RunError(
            f"{folder}: the checkpoint cannot be written: {error}; earlier ones are untouched. "
            "Make room, or mend the folder, and go on by --resume."
        ) from None


def in_tensors(content: dict[str, Tensor]) -> disk.Content:
    """What writes tensors as safetensors."""
    return partial(save_file, {key: tensor.contiguous() for key, tensor in content.items()}, metadata={"format": "pt"})


def steps(folder: Path) -> dict[int, Path]:
    """The published checkpoints of a run's folder by step, the newest first; no claim that they verify."""
    found = {path.name.removeprefix("step-"): path for path in folder.glob("step-*")}
    known = ((int(step), path) for step, path in found.items() if step.isdecimal() and step.isascii())
    return dict(sorted(known, reverse=True))


def prune(folder: Path, keep: int, best: int, newest: int) -> None:
    """Remove what is no longer needed: a disk that refuses only keeps more.

    Args:
        folder: where checkpoints are.
        keep: how many stay, counted back from the newest.
        best: the step of one that stays.
        newest: the step just saved; what is of a later one did not verify, and stays to be looked at.
    """
    done = [path for step, path in steps(folder).items() if step <= newest]
    doomed = [one for one in done[keep:] if one.name != f"step-{best}"]
    for path in [*folder.glob(".step-*"), *doomed]:
        with suppress(OSError):
            draft = path.with_name(f".{path.name.removeprefix('.')}")  # no half of one is left under its name
            if draft != path:
                disk.rename(path, draft)
            disk.remove(draft)


def digest(file: Path) -> str:
    """SHA-256 of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
