"""The record of a proof beside what it is about: what was compared, and the digest of every file that was."""

import json
from pathlib import Path
from typing import Any

import nanotx
from nanotx import disk
from nanotx.errors import RunError
from nanotx.files import DESKTOP_FILES, read_regular
from nanotx.runs.checkpoint import digest

SEAL = "PROOF.json"
"""The file of the record."""

CARD = "README.md"
"""The card, which may be edited."""


def seal(folder: Path, form: str, proof: str) -> None:
    """Write the record of a proof beside the files that it is about, all that are in a folder but its card.

    Args:
        folder: the finished draft of an export.
        form: name of the format, as `--to` takes it.
        proof: what was compared, in a sentence.
    """
    files = {file.name: digest(file) for file in sorted(folder.iterdir()) if file.name not in (SEAL, CARD)}
    table = {"nanotx": nanotx.__version__, "format": form, "proof": proof, "sha256": files}
    disk.write(folder / SEAL, (json.dumps(table, indent=1) + "\n").encode("utf-8"))


def check_seal(folder: Path) -> str:
    """Return what was proven of a folder whose files are still those that were compared.

    Raises:
        RunError: it has no record of a proof, or a file was changed, added or removed since.
    """
    table = read_seal(folder)
    recorded = table["sha256"]
    there = {file.name for file in folder.iterdir()} - {SEAL, CARD} - DESKTOP_FILES
    faults = [f"{name} was not there" for name in sorted(there - recorded.keys())]
    faults += [f"{name} is missing" for name in sorted(recorded.keys() - there)]
    faults += [
        f"{name} was changed" for name in sorted(there & recorded.keys()) if digest(folder / name) != recorded[name]
    ]
    if faults:
        raise RunError(f"{folder}: not what was proven: {'; '.join(faults[:5])}. Export the run once more.")
    return str(table["proof"])


def read_seal(folder: Path) -> dict[str, Any]:
    """Return the record of a proof.

    Raises:
        RunError: there is none, or it is damaged.
    """
    try:
        table = json.loads(read_regular(folder / SEAL, most=1 << 20))
        if isinstance(table["proof"], str) and isinstance(table["sha256"], dict):
            return dict(table)
    except OSError:
        raise RunError(
            f"{folder}: no {SEAL} in it, so nothing is known to be proven; try nanotx export RUN {folder} --to hf."
        ) from None
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise RunError(f"{folder}: its {SEAL} is damaged; export the run once more.")
