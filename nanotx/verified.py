"""Reading checkpoints: a folder is believed only when every digest agrees."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from nanotx.checkpoint import MANIFEST, digest, steps
from nanotx.errors import RunError


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
