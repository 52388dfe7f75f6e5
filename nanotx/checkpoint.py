"""Checkpoints: folders published whole or not at all, and believed only when every digest agrees.

A folder is written under a temporary name, each file flushed to the disk, a manifest of sizes and SHA-256
digests written last, then renamed. Tensors are safetensors, all else is text; nothing in it is ever executed.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
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


def verify(folder: Path) -> None:
    """Raise RunError unless the folder holds just what its manifest says, bit for bit."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        for name, said in manifest.items():
            file = folder / name
            if Path(name).name != name:
                raise RunError(f"{folder}: {MANIFEST} names {name!r}, which is no file of this folder.")
            if file.stat().st_size != said["bytes"] or digest(file) != said["sha256"]:
                raise RunError(f"{file}: the file is not the one that was saved (size or SHA-256 differ).")
    except OSError as error:
        raise RunError(f"{folder}: {error.strerror}: {error.filename}.") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise RunError(f"{folder}: {MANIFEST} is not one that nanotx wrote.") from None


def steps(folder: Path) -> dict[int, Path]:
    """The published checkpoints of a run's folder by step, the newest first; no claim that they verify."""
    found = {path.name.removeprefix("step-"): path for path in folder.glob("step-*")}
    return dict(sorted(((int(step), path) for step, path in found.items() if step.isdecimal()), reverse=True))


def newest(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint that verifies, and why each newer one was passed over."""
    passed = []
    for path in steps(folder).values():
        try:
            verify(path)
        except RunError as error:
            passed.append(str(error))
        else:
            return path, passed
    return None, passed


def prune(folder: Path, keep: int, best: int) -> None:
    """Remove all but the `keep` newest checkpoints and the one of step `best`, and drafts of the dead."""
    for step, path in list(steps(folder).items())[keep:]:
        if step != best:
            shutil.rmtree(path, ignore_errors=True)
    for draft in folder.glob(".step-*"):
        shutil.rmtree(draft, ignore_errors=True)


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        RunError: the file is missing or is not one.
    """
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise RunError(f"{file}: cannot be read as safetensors: {error}.") from None


def read_json(file: Path) -> dict[str, Any]:
    """The table of a JSON file.

    Raises:
        RunError: the file is missing or holds no table.
    """
    try:
        table = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"{file}: cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise RunError(f"{file}: this is not JSON: {error}.") from None
    if not isinstance(table, dict):
        raise RunError(f"{file}: expected a table, got {type(table).__name__}.")
    return table


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
