"""Figures for other programs: what a verb writes where `--json` says."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from nanotx.errors import ConfigError, RunError
from nanotx.files import publish
from nanotx.folder import RunFolder


def write_figures(path: str, what: dict[str, Any]) -> None:
    """A table as strict JSON.

    Raises:
        ConfigError: a file of a run's own lies there.
        RunError: it cannot be written there.
    """
    check_output(path, "--json")
    try:
        publish(Path(path), json.dumps(what, indent=1, allow_nan=False) + "\n")
    except OSError as error:
        raise RunError(f"--json {path}: cannot be written: {error.strerror}.") from None


def check_output(path: str, flag: str) -> None:
    """Refuse to write a result over what a run keeps in its folder.

    Raises:
        ConfigError: the path names a run's journal, recipe, tokenizer, samples or figures, or a file in `checkpoints`.
    """
    file = Path(path).resolve()
    for parent in file.parents:
        with suppress(OSError, RunError):  # a folder that cannot be looked into, or named, is no run's
            folder = RunFolder(parent)
            if folder.is_run and any(own == file or own in file.parents for own in map(Path.resolve, folder.files)):
                raise ConfigError(
                    f"{flag} {path}: a file of the run in {parent}, and would be overwritten; choose another."
                )
