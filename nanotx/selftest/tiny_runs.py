"""Runs of a second, and their results as values that are compared bit for bit."""

import random
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from nanotx.runs import checkpoint, valid
from nanotx.runs.folder import RunFolder
from nanotx.runs.metrics_log import read
from nanotx.selftest import Broken
from nanotx.selftest.child import Child, Disturbance, Ended, run

STEPS, EVERY = 16, 4
"""The number of steps of a run, and of steps between its checkpoints."""

MOST_LOST = 2 * EVERY
"""Steps that a kill may cost: while a checkpoint is written steps are taken, until the next one is due."""

COMMON = {
    "corpus": "file",
    "corpus.path": "text.txt",
    "model.dim": 16,
    "model.layers": 1,
    "model.context": 8,
    "attention.heads": 2,
    "train.batch-size": 2,
    "train.steps": STEPS,
    "train.eval-every": 6,
    "train.sample-every": 5,
    "train.sample-tokens": 12,
    "train.checkpoint-every": EVERY,
    "device": "cpu",
    "dtype": "float32",
    "threads": 1,
}
KINDS: dict[str, dict[str, object]] = {
    "char, muon, n-grams left out": {
        "embedding": "ngrams",
        "embedding.dropout": 0.2,
        "embedding.buckets": 64,
        "embedding.resets": 3,
        "seed": 5,
    },
    "bpe, adamw, dropout, averaged": {
        "tokenizer": "bpe",
        "tokenizer.vocab-size": 270,
        "optimizer": "adamw",
        "block.dropout": 0.2,
        "train.ema-decay": 0.9,
    },
    "byte, adamw, no dropout": {
        "tokenizer": "byte",
        "embedding": "bigram",
        "block": "parallel",
        "ffn": "swiglu",
        "attention": "gqa",
        "optimizer": "adamw",
        "schedule": "constant",
        "train.grad-accum-steps": 2,
    },
}
KIND = next(iter(KINDS))
TIMES = {"tokens_per_second", "wall_seconds", "train_seconds", "earlier_seconds", "title"}
State = dict[str, Any]


def arguments(kind: str, **others: object) -> list[str]:
    """Return the arguments of a run of a kind, some flags changed: `train_steps=9` is `--train.steps 9`."""
    changed = {name.replace("_", ".", 1).replace("_", "-"): value for name, value in others.items()}
    flags = COMMON | KINDS[kind] | changed
    argv = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    exactly = [] if flags["device"] == "cpu" else ["--deterministic"]  # a CPU repeats its bits anyway
    return ["train", "shakespeare_char", *argv, *exactly]


def write_corpus(folder: Path) -> None:
    """Write text.txt, the corpus of these runs."""
    draw = random.Random(1)
    content = "".join(draw.choice("abcde \n") for _ in range(900))
    (folder / "text.txt").write_text(content, encoding="utf-8", newline="\n")


def begin(kind: str, folder: Path, disturb: Disturbance | None = None, **others: object) -> Child:
    """Start a run of a kind in `folder/run`, in a child process."""
    if not (folder / "text.txt").exists():
        write_corpus(folder)
    return Child([*arguments(kind, **others), "--run", "run"], folder, disturb=disturb)


def resume(kind: str, folder: Path, *more: str, **others: object) -> Ended:
    """Resume the run in `folder/run` and wait for its end.

    Raises:
        Broken: it failed.
    """
    ended = Child([*arguments(kind, **others), "--run", "run", "--resume", *more], folder).finish()
    if ended.code != 0:
        raise Broken(f"--resume ended with {ended.code}: {last_line(ended)}")
    return ended


def last_line(ended: Ended) -> str:
    """Return the last line that a child printed."""
    lines = (ended.err or ended.out).strip().splitlines()
    return lines[-1][-300:] if lines else "nothing was printed"


@cache
def undisturbed(kind: str, device: str = "cpu") -> State:
    """Return the result of a run of a kind that nothing disturbs, and its seconds; trained once per process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "whole"
        folder.mkdir()
        run(["--version"], folder)  # starts the fork server
        ended = begin(kind, folder, device=device).finish()
        if ended.code != 0:
            raise Broken(f"the undisturbed run ended with {ended.code}: {last_line(ended)}")
        return result(folder / "run") | {"seconds": ended.seconds}


def result(run: Path) -> State:
    """Return the result of a run: its weights and averages, numbers, rows and samples, without times."""
    folder = RunFolder(run)
    newest, skipped = valid.newest(folder.checkpoints)
    if newest is None:
        raise Broken(f"no checkpoint verifies at the end: {skipped}")
    saved = valid.read_json(newest / "trainer.json")
    tensors = {path.name: checkpoint.digest(path) for path in sorted(newest.glob("*.safetensors"))}
    rows = [without_times(row) for row in read(folder.metrics) if row["event"] in ("step", "eval", "sample")]
    numbers = {key: saved[key] for key in ("optimizer", "scaler", "corpus_sha256", "tokenizer")}
    progress = {
        key: without_times(value) if isinstance(value, dict) else value
        for key, value in without_times(saved["progress"]).items()
    }
    samples = folder.samples.read_text(encoding="utf-8")
    if not valid.read_json(folder.summary)["complete"]:
        raise Broken("summary.json does not say that the run is complete")
    return {"step": newest.name, "tensors": tensors, **numbers, "progress": progress, "rows": rows, "samples": samples}


def without_times(row: State) -> State:
    """Return a table without its times."""
    return {key: value for key, value in row.items() if key not in TIMES}


def check_same(kind: str, run: Path, device: str = "cpu") -> None:
    """Compare a run's result with that of the undisturbed run of its kind.

    Raises:
        Broken: they differ; the message names the first difference.
    """
    expected, actual = undisturbed(kind, device), result(run)
    for key, value in actual.items():
        if value != expected[key]:
            raise Broken(f"{key} differs from the undisturbed run: {first_difference(value, expected[key])}")


def first_difference(actual: Any, expected: Any) -> str:
    """Describe the first place where two values differ."""
    if isinstance(actual, dict) and isinstance(expected, dict):
        key = next(key for key in {**actual, **expected} if actual.get(key) != expected.get(key))
        return f"{key}: {first_difference(actual.get(key), expected.get(key))}"
    if isinstance(actual, list) and isinstance(expected, list) and len(actual) == len(expected):
        pairs = enumerate(zip(actual, expected, strict=True))
        index = next(index for index, pair in pairs if pair[0] != pair[1])
        return f"[{index}]: {first_difference(actual[index], expected[index])}"
    return f"{actual!r:.200}, not {expected!r:.200}"


def lost(run: Path) -> int:
    """Return the number of recorded steps that no valid checkpoint holds."""
    folder = RunFolder(run)
    done = max((row["step"] for row in read(folder.metrics) if row["event"] == "step"), default=0)
    newest, _ = valid.newest(folder.checkpoints)
    return done - (int(newest.name.removeprefix("step-")) if newest else 0)


def wait_until(seen: Callable[[], bool], child: Child, seconds: float = 30.0) -> None:
    """Wait until `seen` returns true, or the child has ended.

    Raises:
        Broken: neither happened in time.
    """
    deadline = time.monotonic() + seconds
    while not seen() and child.alive:
        if time.monotonic() > deadline:
            child.kill()
            raise Broken(f"the run did not get so far within {seconds:g} s")
        time.sleep(0.002)
