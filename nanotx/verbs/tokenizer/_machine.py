"""What the figures were measured on, and the file they go to."""

import json
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nanotx
from nanotx.errors import RunError
from nanotx.figures import check_output
from nanotx.files import publish


def machine() -> dict[str, Any]:
    """The machine, as far as it bears on the figures."""
    return {
        "cpu": _processor(),
        "threads": 1,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: version(name) for name in ("numpy", "regex")},
        "nanotx": nanotx.__version__,
    }


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.is_file():
        for line in listing.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def writable(path: str, flag: str) -> Path | None:
    """A file that can be written, known before minutes are spent on what goes into it; None for no name.

    Raises:
        ConfigError: a file of a run's own lies there.
        RunError: it cannot be written.
    """
    if not path:
        return None
    check_output(path, flag)
    file = Path(path)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        new = not file.exists()
        file.open("a", encoding="utf-8").close()
        if new:
            file.unlink()
    except OSError as error:
        raise RunError(f"{flag} {path}: cannot be written: {error.strerror}.") from None
    return file


def write_json(file: Path, head: dict[str, Any], rows: Sequence[dict[str, Any]]) -> None:
    """Strict JSON: the machine and what else stands above, then the rows; what is not known is null."""
    publish(file, json.dumps({"machine": machine(), **head, "rows": list(rows)}, indent=1, allow_nan=False) + "\n")
