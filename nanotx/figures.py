"""Figures for other programs: what a verb writes where `--json` says."""

import json
from pathlib import Path
from typing import Any

from nanotx.errors import RunError
from nanotx.files import publish


def write_figures(path: str, what: dict[str, Any]) -> None:
    """A table as strict JSON.

    Raises:
        RunError: it cannot be written there.
    """
    try:
        publish(Path(path), json.dumps(what, indent=1, allow_nan=False) + "\n")
    except OSError as error:
        raise RunError(f"--json {path}: cannot be written: {error.strerror}.") from None
