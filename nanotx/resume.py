"""Going on: what a checkpoint holds of a run, and what a run that goes on may be told anew."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nanotx import checkpoint
from nanotx.attention import Attention
from nanotx.config import to_table
from nanotx.errors import ConfigError, DataError, RunError
from nanotx.folder import RunFolder
from nanotx.layers import write_toml
from nanotx.recipe import Recipe
from nanotx.trainer import Progress, Trainer

KEEP = 2
FORMAT = 1
FREE = {"device", "dtype", "threads", "compile"} | {
    f"train.{name}" for name in ("steps", "eval_every", "sample_every", "sample_tokens", "checkpoint_every")
}


def save(trainer: Trainer, folder: RunFolder, corpus_sha256: str) -> None:
    """Publish a checkpoint of this step, and remove those that are no longer needed."""
    averages, numbers = trainer.averages()
    progress = trainer.progress
    state = {
        "format": FORMAT,
        "progress": asdict(progress) | {"earlier": progress.wall_seconds},
        "optimizer": numbers,
        "scaler": trainer.scaler.state_dict(),
        "corpus_sha256": corpus_sha256,
    }
    checkpoint.publish(
        folder.checkpoints / f"step-{progress.step}",
        {
            "model.safetensors": trainer.weights(),
            "optimizer.safetensors": averages,
            "trainer.json": json.dumps(state, indent=1) + "\n",
            "recipe.toml": write_toml(trainer.recipe),
            "tokenizer.json": folder.tokenizer.read_text(encoding="utf-8"),
        },
    )
    checkpoint.prune(folder.checkpoints, keep=KEEP, best=progress.best.get("step", progress.step))


def restore(trainer: Trainer, path: Path, corpus_sha256: str) -> None:
    """Take over a checkpoint that verified.

    Raises:
        RunError: it is not one of this run, or of a newer nanotx.
        DataError: the corpus is no longer the one that the run began with.
    """
    state = checkpoint.read_json(path / "trainer.json")
    if state.get("format") != FORMAT:
        raise RunError(f"{path}: format {state.get('format')!r}; this nanotx reads {FORMAT}.")
    if state["corpus_sha256"] != corpus_sha256:
        raise DataError(
            f"{path}: the run began with a corpus of SHA-256 {state['corpus_sha256'][:12]}..., and now it is "
            f"{corpus_sha256[:12]}...; bring the old text back, or begin a new run."
        )
    averages = checkpoint.read_tensors(path / "optimizer.safetensors")
    trainer.restore(checkpoint.read_tensors(path / "model.safetensors"), averages, state["optimizer"])
    trainer.scaler.load_state_dict(state["scaler"])
    trainer.progress = Progress(**state["progress"])


def check_agreement(saved: Recipe, wished: Recipe) -> None:
    """Raise ConfigError where flags or files wish for another run than the one that lies there.

    Free to change: a longer `train.steps`, how often it is looked at, the machine, and among attentions that are
    one function, the writing, with the fields that one writing alone has.
    """
    old, new = dict(leaves(to_table(saved))), dict(leaves(to_table(wished)))
    differences = []
    for key in sorted(old.keys() | new.keys()):
        was, wish = old.get(key), new.get(key)
        if was != wish and key not in FREE and not is_writing(key, old, new):
            differences.append(f"{key} was {was!r}, not {wish!r}")
    if wished.train.steps < saved.train.steps:
        differences.append(f"train.steps was {saved.train.steps}, and {wished.train.steps} is fewer")
    if differences:
        raise ConfigError(
            f"--resume: the run was begun otherwise: {'; '.join(differences)}. "
            "Leave these out to go on with it, or begin a new run with another --run."
        )


def is_writing(key: str, old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Whether a key that differs says only how an attention writes its function."""
    place, _, field = key.rpartition(".")
    parts = [leaves.get(f"{place}.part") for leaves in (old, new)]
    if not place.endswith("attention") or None in parts or parts[0] == parts[1]:
        return False
    one, other = (Attention.find(str(part)).function for part in parts)
    return one == other != "" and (field == "part" or None in (old.get(key), new.get(key)))


def leaves(table: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """The plain values of a table under dotted names."""
    if isinstance(table, dict):
        for key, item in table.items():
            yield from leaves(item, f"{at}.{key}" if at else key)
    elif isinstance(table, list) and any(isinstance(item, dict) for item in table):
        for index, item in enumerate(table):
            yield from leaves(item, f"{at}.{index}")
    else:
        yield at, table
