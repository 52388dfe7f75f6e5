"""summary.json: the figures of a run, complete enough to compare it with others."""

import math
import platform
from collections.abc import Sequence
from typing import Any

import torch

import nanotx
from nanotx.hardware.cpu import installed_version
from nanotx.hardware.device import Machine
from nanotx.nn.transformer import Transformer
from nanotx.recipe import Recipe
from nanotx.runs.loaded_files import KEY, RecordedFile, to_record
from nanotx.training.budget import step_cost
from nanotx.training.dataset import Dataset
from nanotx.training.trainer import Row, Trainer

Figures = dict[str, Any]


def summarize(
    trainer: Trainer, texts: Dataset, peak: float, budget: Row, loaded: Sequence[RecordedFile] = ()
) -> Figures:
    """Return the summary of a run so far. Non-finite numbers are None, because JSON has none.

    Args:
        trainer: of the run.
        texts: its data.
        peak: the machine's measured peak in operations per second.
        budget: the columns of the run's start row that record its budget.
        loaded: the files that --load imported.
    """
    recipe, progress, machine = trainer.recipe, trainer.progress, trainer.machine
    cost = step_cost(recipe.train, trainer.model, texts)
    tokens = progress.step * recipe.train.batch_size * recipe.model.context
    speed = tokens / progress.train_seconds if progress.train_seconds else 0.0
    figures = {
        "complete": progress.step >= recipe.train.steps and not progress.eval_pending,
        "steps": progress.step,
        "skipped_steps": progress.skipped,
        "parameters": trainer.model.parameter_count,
        **{key: progress.scores.get(key) for key in ("train_loss", "val_loss", "bits_per_byte", "perplexity")},
        **{key: progress.scores.get(key) for key in ("val_stderr", "val_tokens", "train_tokens", "eval_tokens")},
        **({} if texts.floor is None else {"floor_bits_per_byte": texts.floor}),
        "best_step": progress.best.get("step"),
        "best_val_loss": progress.best.get("val_loss"),
        "train_seconds": progress.train_seconds,
        "wall_seconds": progress.scores.get("wall_seconds", progress.wall_seconds),
        "tokens": tokens,
        "bytes": None if cost.bytes is None else round(progress.step * cost.bytes),
        "flops": progress.step * cost.flops,
        **budget,
        "tokens_per_second": speed,
        "mfu": speed * trainer.model.flops_per_token / peak,
        "peak_flops": peak,
        "device": machine.device.type,
        "dtype": machine.dtype_name,
        "compiled": recipe.compile,
        "threads": machine.threads,
        "seed": recipe.seed,
        **{f"{name}_seed": seed for name, seed in recipe.seeds._asdict().items()},
        "corpus": recipe.corpus.part,
        "corpus_sha256": texts.sha256,
        "tokenizer": recipe.tokenizer.part,
        "tokenizer_sha256": texts.codec.digest,
        "vocab_size": texts.codec.vocab_size,
        **({KEY: to_record(loaded)} if loaded else {}),
        "versions": versions(),
    }
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in figures.items()
    }


def versions() -> dict[str, str | None]:
    """Return the versions of nanotx, Python and the main packages."""
    numbers = {name: installed_version(name) for name in ("torch", "numpy", "einops", "safetensors")}
    return {"nanotx": nanotx.__version__, "python": platform.python_version(), **numbers}


def title(name: str, recipe: Recipe, model: Transformer, texts: Dataset, machine: Machine) -> str:
    """Describe a run in one line."""
    count, corpus = model.parameter_count, recipe.corpus
    size = f"{count / 1e6:.2f} M" if count >= 1e5 else f"{count:,}"
    source = getattr(corpus, "path", "") if corpus.part == "file" else ""
    single = machine.device.type == "cuda" and machine.dtype_name == "float32"
    codec = f"{texts.codec.part} of {texts.codec.vocab_size}" + " (saved)" * (recipe.tokenizer.part == "saved")
    tf32 = f" (TF32 {'on' if torch.backends.cuda.matmul.allow_tf32 else 'off'})" if single else ""
    return (
        f"{name}: {size} parameters, {recipe.train.steps:,} steps on {source or corpus.part}, "
        f"{codec}, {machine.device.type} "
        f"{machine.dtype_name}{tf32}, {machine.threads} thread{'s' * (machine.threads > 1)}"
    )
