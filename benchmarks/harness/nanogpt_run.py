"""nanoGPT's own laptop command, run in a checkout of it as its README says, and watched from outside.

Source: https://github.com/karpathy/nanoGPT, README.md, "quick start". Its evaluations are the mean over `eval_iters`
random batches, where ours read the whole validation text.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import Row
from nanotx.errors import ConfigError, RunError

ARGUMENTS = (
    "config/train_shakespeare_char.py --device=cpu --compile=False --eval_iters=20 --log_interval=1 --block_size=64 "
    "--batch_size=12 --n_layer=4 --n_head=4 --n_embd=128 --max_iters=2000 --lr_decay_iters=2000 --dropout=0.0"
)
"""Of `train.py`, from the README."""


def check_checkout(path: str) -> Path:
    """Return the folder of a checkout whose data were prepared.

    Raises:
        ConfigError: it is none, or `data/shakespeare_char/prepare.py` was not run.
    """
    folder = Path(path).resolve()
    if not (folder / "train.py").is_file():
        raise ConfigError(f"--nanogpt {path}: expected a checkout of nanoGPT, and it has no train.py.")
    if not (folder / "data" / "shakespeare_char" / "train.bin").is_file():
        raise ConfigError(f"--nanogpt {path}: run python data/shakespeare_char/prepare.py there first.")
    return folder


def laptop_run(checkout: Path, threads: int, seed: int, steps: int = 2000) -> Row:
    """Run the command to its end and return its row; the seed only names the turn, nanoGPT has one of its own.

    Raises:
        RunError: it failed.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        words = [*ARGUMENTS.split(), f"--out_dir={place}", f"--max_iters={steps}", f"--lr_decay_iters={steps}"]
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "train.py", *words],
            cwd=checkout,
            env=os.environ | {"OMP_NUM_THREADS": str(threads)},
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.perf_counter() - began
    losses = re.findall(r"^step \d+: train loss [\d.]+, val loss ([\d.]+)", done.stdout, re.MULTILINE)
    if done.returncode or not losses:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise RunError(f"nanoGPT, seed {seed}: ended with {done.returncode}: {''.join(last) or 'no output'}")
    return {
        "name": "nanoGPT",
        "pass": "run",
        "device": "cpu",
        "dtype": "float32",
        "compiled": False,
        "threads": threads,
        "steps": steps,
        "val_loss": float(losses[-1]),
        "target": None,
        "reached": None,
        "wall_seconds": seconds,
    }
