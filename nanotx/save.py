"""What a checkpoint keeps of a run, so that it can go on as if it had never been stopped."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch

from nanotx import checkpoint
from nanotx.errors import Diverged
from nanotx.folder import RunFolder
from nanotx.layers import write_toml
from nanotx.texts import Texts
from nanotx.trainer import Row, Trainer
from nanotx.verified import Proven

KEEP = 2


def save(
    trainer: Trainer,
    folder: RunFolder,
    texts: Texts,
    proven: Proven | None = None,
    check_place: Callable[[], None] = lambda: None,
) -> list[Path]:
    """Publish a checkpoint of this step, and remove those that are no longer needed.

    All that it holds comes from memory, not from the run's folder. Of the others, those are counted that verify;
    `proven` remembers which do. Before any is removed, `check_place` raises where the folder is another run's by now.
    Returns those that stay only because they hold more than was saved.
    """
    averages, numbers = trainer.averages()
    weights, progress = trainer.weights(), trainer.progress
    for name, weight in weights.items():
        if not torch.isfinite(weight).all():
            raise Diverged(
                f"step {progress.step}: the weights of {name} are not finite, and are not saved; what was saved before "
                f"is. Try a lower --optimizer.lr than {trainer.recipe.optimizer.lr:g}."
            )
    state = {
        "format": checkpoint.FORMAT,
        "progress": asdict(progress) | {"earlier": progress.wall_seconds, "scores": strict(progress.scores)},
        "optimizer": numbers,
        "scaler": trainer.scaler.state_dict(),
        "corpus_sha256": texts.sha256,
        "corpus_size": texts.size,
        "tokenizer": {"part": texts.codec.part, "sha256": texts.codec.digest},
    }
    average = {"average.safetensors": trainer.judged_weights()} if trainer.averaged else {}
    sound, path = proven or Proven(), folder.checkpoints / f"step-{progress.step}"
    checkpoint.publish(
        path,
        {
            "model.safetensors": weights,
            "optimizer.safetensors": averages,
            **average,
            "trainer.json": json.dumps(state, indent=1) + "\n",
            "recipe.toml": write_toml(trainer.recipe),
            "tokenizer.json": texts.codec.to_json(),
        },
    )
    check_place()
    sound.add(path)
    return prune(trainer, folder, progress.step, sound)


def prune(trainer: Trainer, folder: RunFolder, newest: int, proven: Proven | None = None) -> list[Path]:
    """Keep the newest checkpoints and the one of the best evaluation so far; `newest` is the step of the last one.

    Returns those that stay only because they hold more than was saved.
    """
    best = trainer.progress.best.get("step", newest)
    return checkpoint.prune(folder.checkpoints, keep=KEEP, best=best, newest=newest, sound=proven or Proven())


def strict(row: Row) -> Row:
    """A row as JSON can hold it: a number that is not finite is null."""
    return {key: None if isinstance(item, float) and not math.isfinite(item) else item for key, item in row.items()}
