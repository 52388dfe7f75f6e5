"""Runs that take a second, and what one of them comes to, bit for bit."""

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
from nanotx.selftest.child import Child, Ended, Meddle, run

STEPS, EVERY = 16, 4
"""How many steps a run has, and after how many it saves."""

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
OTHERS: dict[str, dict[str, object]] = {
    "char, muon, n-grams left out": {
        "embedding.dropout": 0.2,
        "embedding.buckets": 64,
        "embedding.resets": 3,
        "seed": 5,
    },
    "bpe, adamw, dropout, averaged": {
        "tokenizer": "bpe",
        "tokenizer.vocab-size": 270,
        "embedding": "tokens",
        "block": "prenorm",
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
KIND = next(iter(OTHERS))
TIMES = {"tokens_per_second", "wall_seconds", "train_seconds", "earlier_seconds", "title"}
State = dict[str, Any]


def argv(kind: str, **others: object) -> list[str]:
    """What is typed behind `nanotx` for a run of a kind; `train_steps=9` is `--train.steps 9`."""
    flags = COMMON | OTHERS[kind] | {name.replace("_", ".", 1).replace("_", "-"): one for name, one in others.items()}
    argv = [word for name, one in flags.items() for word in (f"--{name}", str(one))]
    exactly = [] if flags["device"] == "cpu" else ["--deterministic"]  # a CPU repeats its bits anyway
    return ["train", "shakespeare_char", *argv, *exactly]


def text(folder: Path) -> None:
    """Lay down what the runs learn from."""
    draw = random.Random(1)
    letters = "".join(draw.choice("abcde \n") for _ in range(900))
    (folder / "text.txt").write_text(letters, encoding="utf-8", newline="\n")


def begin(kind: str, folder: Path, meddle: Meddle | None = None, **others: object) -> Child:
    """Start a run of a kind in `folder/run`, in a process of its own."""
    if not (folder / "text.txt").exists():
        text(folder)
    return Child([*argv(kind, **others), "--run", "run"], folder, meddle=meddle)


def resume(kind: str, folder: Path, *more: str, **others: object) -> Ended:
    """Let the run in `folder/run` go on to its end.

    Raises:
        Broken: it did not come to its end.
    """
    ended = Child([*argv(kind, **others), "--run", "run", "--resume", *more], folder).finish()
    if ended.code != 0:
        raise Broken(f"--resume ended with {ended.code}: {tail(ended)}")
    return ended


def tail(ended: Ended) -> str:
    """The last that a child said."""
    lines = (ended.err or ended.out).strip().splitlines()
    return lines[-1][-300:] if lines else "nothing was said"


@cache
def undisturbed(kind: str, device: str = "cpu") -> State:
    """What a run of a kind comes to that nobody disturbs, and how many seconds it takes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "whole"
        folder.mkdir()
        run(["--version"], folder)  # whatever starts all children has started then
        ended = begin(kind, folder, device=device).finish()
        if ended.code != 0:
            raise Broken(f"a run that nobody disturbed ended with {ended.code}: {tail(ended)}")
        return state(folder / "run") | {"seconds": ended.seconds}


def state(run: Path) -> State:
    """What a run has come to: its weights and averages, its numbers, its rows and its texts, but for times."""
    folder = RunFolder(run)
    newest, passed = valid.newest(folder.checkpoints)
    if newest is None:
        raise Broken(f"no checkpoint verifies at the end: {passed}")
    kept = valid.read_json(newest / "trainer.json")
    tensors = {path.name: checkpoint.digest(path) for path in sorted(newest.glob("*.safetensors"))}
    rows = [strip(row) for row in read(folder.metrics) if row["event"] in ("step", "eval", "sample")]
    numbers = {key: kept[key] for key in ("optimizer", "scaler", "corpus_sha256", "tokenizer")}
    progress = {key: strip(one) if isinstance(one, dict) else one for key, one in strip(kept["progress"]).items()}
    texts = folder.samples.read_text(encoding="utf-8")
    if not valid.read_json(folder.summary)["complete"]:
        raise Broken("summary.json does not say that the run is complete")
    return {"step": newest.name, "tensors": tensors, **numbers, "progress": progress, "rows": rows, "texts": texts}


def strip(row: State) -> State:
    """A table without its times."""
    return {key: one for key, one in row.items() if key not in TIMES}


def same(kind: str, run: Path, device: str = "cpu") -> None:
    """Raise Broken unless a run has come to the very bits of the one that nobody disturbed."""
    whole, here = undisturbed(kind, device), state(run)
    for key, one in here.items():
        if one != whole[key]:
            raise Broken(f"{key} differs from that of the run that was never disturbed: {first(one, whole[key])}")


def first(one: Any, other: Any) -> str:
    """Where two values differ first."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = [key for key in {**one, **other} if one.get(key) != other.get(key)]
        return f"{keys[0]}: {first(one.get(keys[0]), other.get(keys[0]))}"
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        index = next(index for index, pair in enumerate(zip(one, other, strict=True)) if pair[0] != pair[1])
        return f"[{index}]: {first(one[index], other[index])}"
    return f"{one!r:.200}, not {other!r:.200}"


def lost(run: Path) -> int:
    """How many steps that were done and written down have to be done again."""
    folder = RunFolder(run)
    done = max((row["step"] for row in read(folder.metrics) if row["event"] == "step"), default=0)
    newest, _ = valid.newest(folder.checkpoints)
    return done - (int(newest.name.removeprefix("step-")) if newest else 0)


def until(look: Callable[[], bool], child: Child, seconds: float = 30.0) -> None:
    """Wait until something is seen, or the child has ended.

    Raises:
        Broken: neither came.
    """
    deadline = time.monotonic() + seconds
    while not look() and child.alive:
        if time.monotonic() > deadline:
            child.kill()
            raise Broken(f"what was waited for did not come within {seconds:g} s")
        time.sleep(0.002)
