"""Checkpoints: folders published whole or not at all. What is believed of them: `verified.py`.

A folder is written under a temporary name, each file flushed to the disk, a manifest of sizes and SHA-256
digests written last, then renamed. Tensors are safetensors, all else is text; nothing in it is ever executed.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from nanotx.errors import RunError

MANIFEST = "MANIFEST.json"
Content = str | dict[str, Tensor]


def publish(folder: Path, files: dict[str, Content]) -> None:
    """Write a folder of texts and tensors so that it appears complete or not at all.

    Raises:
        RunError: the disk refused; nothing is left under the folder's name.
    """
    draft = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        for name, content in files.items():
            if isinstance(content, str):
                (draft / name).write_text(content, encoding="utf-8", newline="\n")
            else:
                save_file({key: tensor.contiguous() for key, tensor in content.items()}, draft / name, {"format": "pt"})
            sync(draft / name)
        manifest = {name: {"bytes": (draft / name).stat().st_size, "sha256": digest(draft / name)} for name in files}
        (draft / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        sync(draft / MANIFEST)
        sync(draft)
        if folder.exists():
            shutil.rmtree(folder)
        draft.rename(folder)
        sync(folder.parent)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise RunError(f"{folder}: the checkpoint cannot be written: {error}; earlier ones are untouched.") from None


def steps(folder: Path) -> dict[int, Path]:
    """The published checkpoints of a run's folder by step, the newest first; no claim that they verify."""
    found = {path.name.removeprefix("step-"): path for path in folder.glob("step-*")}
    return dict(sorted(((int(step), path) for step, path in found.items() if step.isdecimal()), reverse=True))


def prune(folder: Path, keep: int, best: int) -> None:
    """Remove all but the `keep` newest checkpoints and the one of step `best`, and drafts of the dead."""
    for step, path in list(steps(folder).items())[keep:]:
        if step != best:
            shutil.rmtree(path, ignore_errors=True)
    for draft in folder.glob(".step-*"):
        shutil.rmtree(draft, ignore_errors=True)


def digest(file: Path) -> str:
    """SHA-256 of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Flush a file, or a folder's list of names where the system knows how, to the disk."""
    if path.is_dir() and os.name == "nt":  # Windows opens no folders
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
