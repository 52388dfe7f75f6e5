"""From nothing to the first step: how long a process takes that imports, reads its text, builds, and steps once."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from harness.builds import Where
from nanotx.config.toml import write_toml
from nanotx.errors import RunError
from nanotx.recipe import Recipe

HERE = Path(__file__).resolve().parent.parent


def start_all(names: Sequence[str], recipe: Recipe, where: Where, tries: int) -> dict[str, float]:
    """The middle of the seconds from the start of a process to the end of its first step, for each, in turns."""
    taken: dict[str, list[float]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "recipe.toml")
        file.write_text(write_toml(recipe), encoding="utf-8")
        for _ in range(tries):
            for name in names:
                taken[name].append(start(name, file, where))
    return {name: statistics.median(values) for name, values in taken.items() if values}


def start(name: str, file: Path, where: Where) -> float:
    """Seconds from the start of a process to the end of its first step, its imports and its text included."""
    code = "import sys; from harness.builds import first_step; first_step(*sys.argv[1:])"
    paths = [str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    began = time.perf_counter()
    words = [sys.executable, "-c", code, str(file), name, where.device, str(where.threads), where.best]
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        seconds = time.perf_counter() - began
    if line != "done\n":
        raise RunError(f"{name}: a process of its own ended with {process.returncode} before its first step.")
    return seconds
