"""A run that takes a second, for the tests of whole runs."""

import random
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FLAGS = {
    "model.dim": "16",
    "model.layers": "1",
    "model.context": "8",
    "attention.heads": "2",
    "train.batch": "2",
    "train.steps": "6",
    "train.eval-every": "3",
    "train.sample-every": "3",
    "train.sample-tokens": "12",
    "train.checkpoint-every": "2",
    "device": "cpu",
    "dtype": "float32",
    "threads": "1",
    "seed": "5",
}


def tiny(**others: object) -> list[str]:
    """The flags of a run that takes a second, some of them otherwise: `train_steps=9` is `--train.steps 9`."""
    flags = FLAGS | {name.replace("_", ".", 1).replace("_", "-"): str(value) for name, value in others.items()}
    return [word for name, value in flags.items() for word in (f"--{name}", value)]


def text(path: Path, size: int = 900) -> Path:
    """A file with a text of a few letters."""
    draw = random.Random(1)
    path.write_text("".join(draw.choice("abcde \n") for _ in range(size)), encoding="utf-8")
    return path


def start(*words: str, cwd: Path) -> subprocess.Popen[str]:
    """A child process that runs nanotx with these words."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from nanotx.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *words],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def finish(child: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Its exit code, its output, and what it said on the side."""
    out, err = child.communicate(timeout=120)
    return child.returncode, out, err
