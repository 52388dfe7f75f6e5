"""What a checkpoint keeps of a run, so that it can go on as if it had never been stopped."""

import json
from dataclasses import asdict

from nanotx import checkpoint
from nanotx.folder import RunFolder
from nanotx.layers import write_toml
from nanotx.texts import Texts
from nanotx.trainer import Trainer

KEEP = 2
FORMAT = 2


def save(trainer: Trainer, folder: RunFolder, texts: Texts) -> None:
    """Publish a checkpoint of this step, and remove those that are no longer needed."""
    averages, numbers = trainer.averages()
    progress = trainer.progress
    state = {
        "format": FORMAT,
        "progress": asdict(progress) | {"earlier": progress.wall_seconds},
        "optimizer": numbers,
        "scaler": trainer.scaler.state_dict(),
        "corpus_sha256": texts.sha256,
        "tokenizer": {"part": texts.codec.part, "sha256": texts.codec.digest},
    }
    average = {"average.safetensors": trainer.judged_weights()} if trainer.averaged else {}
    checkpoint.publish(
        folder.checkpoints / f"step-{progress.step}",
        {
            "model.safetensors": trainer.weights(),
            "optimizer.safetensors": averages,
            **average,
            "trainer.json": json.dumps(state, indent=1) + "\n",
            "recipe.toml": write_toml(trainer.recipe),
            "tokenizer.json": folder.tokenizer.read_text(encoding="utf-8"),
        },
    )
    checkpoint.prune(folder.checkpoints, keep=KEEP, best=progress.best.get("step", progress.step))
