"""The results of `gpu.py`: a file per commit and device that is valid at any moment, and what is published of it."""

import hashlib
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness import Row
from harness.gpu_jobs import HERE
from nanotx.errors import RunError
from nanotx.files import write_atomic

ROOT = HERE.parent
PUBLISHED = ("device", "attn", "layers", "training", "peers", "sampling")
"""Jobs whose figures are files of `benchmarks/results`."""


class Results:
    """The results of one commit on one device."""

    def __init__(self, path: Path, commit: str, order: Sequence[str]) -> None:
        """Open the file; what it holds already stays.

        Args:
            path: of the file.
            commit: of the code that is measured.
            order: of the rows, by their names.

        Raises:
            RunError: it cannot be written, or holds something else.
        """
        self.commit, self.path, self.order = commit, path, list(order)
        self.rows: dict[str, Row] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                self.rows = {row["name"]: row for row in json.loads(path.read_text(encoding="utf-8"))["rows"]}
            self.write()
        except OSError as error:
            raise RunError(
                f"--out {path.parent}: cannot be written: {error.strerror}; choose another folder."
            ) from None
        except (ValueError, KeyError, TypeError):
            raise RunError(f"{path}: holds no results of this program; move it away.") from None

    def put(self, row: Row) -> str:
        """Add a row and write the file; return what went wrong in writing, which is tried again with the next row."""
        self.rows[row["name"]] = row
        try:
            self.write()
        except OSError as error:
            return f"{self.path}: {error.strerror}; will be tried again after the next job"
        return ""

    def write(self) -> None:
        """Replace the file."""
        machine = (self.rows.get("device", {}).get("result") or {}).get("machine")
        order = self.order
        rows = sorted(self.rows.values(), key=lambda row: order.index(row["name"]) if row["name"] in order else 99)
        write_atomic(self.path, json.dumps({"commit": self.commit, "machine": machine, "rows": rows}, indent=1) + "\n")


def commit() -> str:
    """Return the commit of this checkout, marked if files were changed; without git, a digest of the sources."""
    try:
        ask = ["git", "-C", str(ROOT)]
        head = subprocess.run([*ask, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout
        changed = subprocess.run([*ask, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True)
        return head[:12] + ("-changed" if changed.stdout.strip() else "")
    except (OSError, subprocess.CalledProcessError):
        digest = hashlib.sha256()
        for file in sorted(
            [*ROOT.glob("nanotx/**/*.py"), *ROOT.glob("benchmarks/**/*.py"), *ROOT.glob("recipes/*.toml")]
        ):
            digest.update(file.relative_to(ROOT).as_posix().encode() + file.read_bytes())
        return f"tree-{digest.hexdigest()[:12]}"


def publish_figures(file: Path) -> int:
    """Write the figures of a results file into `benchmarks/results`, where the README's tables come from."""
    try:
        table: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        rows = {row["name"]: row for row in table["rows"] if row["status"] == "done"}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"--publish {file}: cannot be read as results of this program: {error}.") from None
    kind = file.name.split("-")[1] if file.name.startswith("gpu-") else "cuda"
    for name in PUBLISHED:
        if name in rows:
            write(HERE / "results" / f"{name}-{kind}.json", rows[name]["result"])
    runs = [{"name": name, **row["result"]} for name, row in rows.items() if "evals" in (row["result"] or {})]
    if runs:
        write(HERE / "results" / f"runs-{kind}.json", {"machine": table["machine"], "rows": runs})
    return 0


def write(file: Path, table: dict[str, Any]) -> None:
    """Write a file of figures, and print its name."""
    write_atomic(file, json.dumps(table, indent=1) + "\n")
    print(file.relative_to(ROOT))
