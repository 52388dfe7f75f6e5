"""Resume: load a checkpoint into a trainer, or into a model alone.

The tokenizer and the corpus are compared with those of the checkpoint here (unless `allow_mismatch`), and its weights
with the model: their names, shapes and number. `resume_check.py` checks the folder's files and the recipe, and does so
before anything is loaded.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nanotx.errors import ConfigError, NanotxError, RunError, TokenizerError
from nanotx.files import is_blank
from nanotx.nn.buffers import Buffers
from nanotx.nn.canonical import from_canonical
from nanotx.nn.transformer import LOSS_PREFIX, Model, Transformer
from nanotx.runs import checkpoint, valid
from nanotx.runs.folder import RunFolder
from nanotx.runs.formats import read_saved_recipe
from nanotx.runs.resume_check import Survey, differences
from nanotx.runs.trainer_state import read_state
from nanotx.tokenizers import Codec, load
from nanotx.training.dataset import Dataset, check_same_corpus
from nanotx.training.trainer import Progress, Trainer


def tokenizer_of(folder: RunFolder, allow_mismatch: bool = False) -> Codec:
    """Return a run's tokenizer, checked against that of its newest checkpoint before any text is encoded.

    If its file is missing or empty, the copy in the newest checkpoint is read.

    Raises:
        TokenizerError: it cannot be read, or is another one without `allow_mismatch`.
    """
    if is_blank(folder.tokenizer) and (newest := valid.newest(folder.checkpoints)[0]):
        return load(newest / folder.tokenizer.name)
    try:
        codec = load(folder.tokenizer)
    except TokenizerError as error:
        newest, _ = valid.newest(folder.checkpoints)
        if newest is None:
            raise
        hint = f"A copy that verifies is {newest / folder.tokenizer.name}: put it in its place."
        raise type(error)(f"{error} {hint}") from None
    if allow_mismatch:
        return codec
    for path in list(checkpoint.steps(folder.checkpoints).values())[:1]:
        with suppress(RunError, KeyError):  # an unreadable one is skipped later, with a message
            check_tokenizer(path, read_state(path), codec)
    return codec


def resume_run(
    trainer: Trainer,
    folder: RunFolder,
    texts: Dataset,
    say: Callable[[str], None],
    survey: Survey,
    allow_mismatch: bool = False,
) -> bool:
    """Load the newest checkpoint of a run's folder that verifies; return whether there is one.

    Args:
        trainer: loads it.
        folder: of the run.
        texts: the data to continue with.
        say: prints a line.
        survey: the contents of the folder.
        allow_mismatch: whether another corpus or tokenizer is accepted.

    Raises:
        RunError: the checkpoint is not of this run, or was written by a newer nanotx.
        DataError: the corpus is not the one that the run began with.
    """
    if survey.steps != list(checkpoint.steps(folder.checkpoints)):
        raise RunError(f"{folder.path}: another process has continued this run in the meantime; resume it again.")
    for reason in survey.skipped:
        say(f"skipped: {reason}")
    if survey.checkpoint is None:
        say(f"{folder.path}: there is no checkpoint to continue from, so it begins at step 0.")
        return False
    for note in restore(trainer, survey.checkpoint, texts, allow_mismatch):
        say(note)
    if allow_mismatch and survey.before and differences(survey.before, trainer.recipe):
        try_step(trainer, survey.checkpoint, texts)
    say(f"{folder.path}: continues from step {trainer.progress.step}.")
    return True


def restore(trainer: Trainer, path: Path, texts: Dataset, allow_mismatch: bool = False) -> list[str]:
    """Load a checkpoint that verified; return a sentence for each state of the optimizer that is reset.

    Raises:
        RunError: it is not of this run, or was written by a newer nanotx.
        DataError: the corpus is not the one that the run began with.
    """
    state = read_state(path)
    if not allow_mismatch:
        check_tokenizer(path, state, texts.codec)
        check_corpus(path, state, texts.sha256, texts.size)
    check_size(path / "model.safetensors", trainer.model.parameter_count)
    file = path / "optimizer.safetensors"
    tensors, table = valid.read_tensors(file), state["optimizer"]
    before = read_saved_recipe(path / "recipe.toml")
    if before.optimizer.part != trainer.recipe.optimizer.part:
        tensors, table = {}, {}
    weights = valid.read_tensors(path / "model.safetensors")
    notes = load_state(trainer, weights, tensors, table, str(file), reset=allow_mismatch)
    trainer.restored_from = str(file) if table else ""
    if trainer.ema:
        averages = valid.read_tensors(path / "ema.safetensors") if before.train.ema_decay else weights
        copy_in(trainer.ema.averages, trainer.model, averages)
    load_buffers(trainer.buffers, path)
    if trainer.scaler.is_enabled() and state["scaler"]:
        trainer.scaler.load_state_dict(state["scaler"])
    trainer.progress = Progress(**state["progress"])
    return notes


def try_step(trainer: Trainer, path: Path, texts: Dataset) -> None:
    """Try the first step of a changed recipe, then restore the checkpoint; nothing is written.

    Args:
        trainer: in the state of the checkpoint.
        path: of the checkpoint.
        texts: the training data.

    Raises:
        ConfigError: the step fails; the message says why.
    """
    scaler = trainer.scaler.state_dict()
    try:
        trainer.train_step()
    except NanotxError:
        raise
    except Exception as error:  # any part may be a user's
        raise ConfigError(
            f"--allow-mismatch: the first step of the changed recipe fails: {error!r}; nothing was written."
        ) from error
    if trainer.scaler.is_enabled():
        trainer.scaler.load_state_dict(scaler)
    restore(trainer, path, texts, allow_mismatch=True)


def check_corpus(path: Path, state: dict[str, Any], digest: str, size: int) -> None:
    """Raise DataError unless the corpus is the one that a checkpoint was trained on.

    Args:
        path: the checkpoint.
        state: its state, from `read_state`.
        digest: identifies the corpus, see `Dataset.sha256`.
        size: of the corpus, in characters; of token files, in tokens.
    """
    remedy = "bring the old one back, begin a new run, or continue with this one by --allow-mismatch"
    lengths = (state["corpus_size"], size) if "corpus_size" in state else None
    check_same_corpus(path, state["corpus_sha256"], digest, remedy, lengths)


def load_model(file: Path, config: Model, vocab_size: int) -> Transformer:
    """Build a model with the weights of a file, without those of the training loss; sizes are checked first.

    Raises:
        RunError: the file cannot be read, or its weights are not those of the model.
    """
    check_size(file, config.size(vocab_size).parameters, LOSS_PREFIX)
    model = config.build(vocab_size)
    load_weights(model, without_loss(valid.read_tensors(file)))
    load_buffers(Buffers(model), file.parent, without_loss)
    return model


def load_buffers(
    buffers: Buffers, path: Path, choose: Callable[[dict[str, Tensor]], dict[str, Tensor]] = lambda tensors: tensors
) -> None:
    """Load the persistent buffers of a checkpoint, which has no file for them if the model has none.

    Args:
        buffers: of the model.
        path: of the checkpoint.
        choose: selects those of the file that the model has.

    Raises:
        RunError: the file is missing, or its buffers are not those of the model; the message says which.
    """
    file = path / valid.BUFFERS
    tensors = valid.read_tensors(file) if buffers.names or file.exists() else {}
    try:
        buffers.load(choose(tensors))
    except ValueError as error:
        raise RunError(f"{file}: {error}") from None


def without_loss(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights without the parameters of the training loss."""
    return {name: weight for name, weight in weights.items() if not name.startswith(LOSS_PREFIX)}


def check_size(file: Path, expected: int, without: str | None = None) -> None:
    """Raise RunError unless a file has as many numbers as a model by its header, except for names with a prefix."""
    count = valid.count(file, without)
    if count != expected:
        raise RunError(
            f"{file}: {count:,} numbers, and the model of its recipe has {expected:,}; they are not of one run."
        )


def check_tokenizer(path: Path, state: dict[str, Any], codec: Codec) -> None:
    """Raise TokenizerError unless a tokenizer is the one that a checkpoint was trained with.

    Raises:
        TokenizerError: it is another one, by name or by digest.
    """
    saved, current = state["tokenizer"], {"part": codec.part, "sha256": codec.digest}
    if saved != current:
        raise TokenizerError(
            f"{path}: trained with the tokenizer {saved['part']} of digest {saved['sha256'][:12]}..., and this is "
            f"{current['part']} of {current['sha256'][:12]}...: the same ids would be other texts. Bring the old one "
            "back, or begin a new run. If the change is intended, continue with --allow-mismatch."
        )


def load_state(
    trainer: Trainer,
    weights: dict[str, Tensor],
    tensors: dict[str, Tensor],
    table: dict[str, Any],
    where: str = "optimizer",
    reset: bool = False,
) -> list[str]:
    """Load the results of `Trainer.weights` and `Trainer.optimizer_state`; without the latter, reset the optimizer.

    Args:
        trainer: of a recipe whose weights these are.
        weights: in the canonical layout.
        tensors: of the optimizer.
        table: the other values of the optimizer.
        where: the file of the optimizer's state, for messages.
        reset: whether to reset states that fit only another implementation, which are refused otherwise.

    Returns:
        A sentence for each state of the optimizer that is reset.

    Raises:
        RunError: names or shapes are not this model's; the message says which.
    """
    load_weights(trainer.model, weights)
    return trainer.state_codec.load(tensors, table, where, reset)


@torch.no_grad()
def load_weights(model: Transformer, weights: dict[str, Tensor]) -> None:
    """Copy weights in the canonical layout into a model; their names must be exactly the model's.

    Raises:
        RunError: names or shapes are not this model's; the message says which.
    """
    copy_in(dict(model.named_parameters()), model, weights)


def copy_in(targets: Mapping[str, Tensor], model: Transformer, weights: dict[str, Tensor]) -> None:
    """Copy weights in the canonical layout of a model into tensors with exactly the names of its parameters.

    Raises:
        RunError: names or shapes are not this model's; the message says which.
    """
    sources = to_model_layout(model, weights)
    for name in sorted(targets.keys() ^ sources.keys()):
        raise RunError(f"weights: {name!r} is {'missing' if name in targets else 'not of this model'}.")
    for name, target in targets.items():
        check_shape(name, target, sources[name])
        target.copy_(sources[name])


def to_model_layout(model: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convert tensors from the canonical layout to a model's own.

    Raises:
        RunError: they are not those of this model.
    """
    try:
        return from_canonical(model, tensors)
    except (RuntimeError, KeyError, ValueError) as error:
        raise RunError(f"weights: they do not fit this model: {error}.") from None


def check_shape(name: str, target: Tensor, source: Tensor) -> None:
    """Raise RunError unless a tensor has the shape of another and floating-point numbers."""
    if target.shape != source.shape or not source.is_floating_point():
        want, got = tuple(target.shape), tuple(source.shape)
        raise RunError(f"weights: {name!r} has shape {got}; this model wants {want}.")
