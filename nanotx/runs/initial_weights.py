"""Begin a run with the weights of another: its tensors are matched by name and shape, and its digest is recorded."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from nanotx.errors import ConfigError, NanotxError, RunError
from nanotx.files import open_regular
from nanotx.nn.buffers import Buffers
from nanotx.nn.canonical import added_names, from_canonical, to_canonical
from nanotx.nn.transformer import LOSS_PREFIX, Transformer
from nanotx.recipe import Recipe
from nanotx.runs import checkpoint, pack_reader, valid
from nanotx.runs.folder import RunFolder, is_pack, not_a_run, user_of
from nanotx.runs.load import find_checkpoint, read_parts
from nanotx.runs.resume import without_loss
from nanotx.tokenizers import Codec
from nanotx.tokenizers.saved import Saved

OF_TOKENS = ("embedding.", "head.")
"""Beginnings of the names of weights that belong to ids, so that another tokenizer gives them another meaning."""

POSITIONS = "position.table.weight"
"""The learned positions: the first rows of a longer table are those of a shorter one."""

SHOWN = 6
"""Tensors that a message lists."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """The model of a run or a pack, as another run begins with it."""

    path: str  # as it was given
    step: int
    recipe: Recipe
    tokenizer: Codec
    weights: dict[str, Tensor]  # those that the run was evaluated with, in the canonical layout
    buffers: dict[str, Tensor]
    sha256: str  # of the files that hold them
    skipped: tuple[str, ...] = ()  # newer checkpoints of the run, and why they cannot be read

    def __str__(self) -> str:
        return f"{self.path}, step {self.step:,}"


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Which tensors of a model came from a source, and why the others did not."""

    taken: list[str] = field(default_factory=list)
    drawn: dict[str, str] = field(default_factory=dict)  # of the model, as its seed draws them: why
    unused: dict[str, str] = field(default_factory=dict)  # of the source: why

    def notes(self) -> list[str]:
        """Return a sentence for each kind of tensor that did not fit."""
        drawn = f"init: tensors of this model that are drawn from the seed: {listed(self.drawn)}."
        unused = f"init: tensors of the source that are not used: {listed(self.unused)}."
        return [drawn] * bool(self.drawn) + [unused] * bool(self.unused)


def listed(reasons: Mapping[str, str]) -> str:
    """Return the first names with their reasons."""
    shown = [f"{name} ({reason})" for name, reason in list(reasons.items())[:SHOWN]]
    return ", ".join([*shown, *([f"and {len(reasons) - SHOWN} more"] if len(reasons) > SHOWN else [])])


# Read a source.


def read_source(path: str, sha256: str | None = None) -> Source:
    """Read the weights, the tokenizer and the recipe of a run, one of its checkpoints, or a pack.

    Args:
        path: of the run, the checkpoint or the pack.
        sha256: the digest that its weights must have; of a run, any checkpoint with it is read. None for any weights.

    Raises:
        ConfigError: it is a folder of another library.
        RunError: it is neither a run nor a pack, is damaged, or has no weights with this digest.
        UnknownPart: its recipe names a part that must be supplied by --load FILE.py.
    """
    try:
        if is_pack(Path(path)):
            with pack_reader.opened(Path(path)) as files:
                step = pack_reader.read_about(files)["step"]
                return check_digest(read_files(path, files, "model.safetensors", step), sha256)
        run, step = run_of(path)
        return valid.while_saved(partial(read_run, path, run, step, sha256), run.checkpoints)
    except NanotxError as error:
        raise type(error)(f"init: {error}") from None


def run_of(path: str) -> tuple[RunFolder, int | None]:
    """Return the run of a path, and the step of the checkpoint that it names, if it names one.

    Raises:
        ConfigError: it is a folder of another library.
        RunError: it is no run.
    """
    folder = Path(path)
    step = folder.name.removeprefix("step-")
    if folder.parent.name == "checkpoints" and step.isdecimal() and RunFolder(folder.parent.parent).is_run:
        return RunFolder(folder.parent.parent), int(step)
    if (folder / "config.json").is_file():
        raise ConfigError(
            f"{path}: a folder of the Hugging Face world; read it first: nanotx import {path} --run "
            f"runs/{folder.name}, and --init runs/{folder.name}."
        )
    run = RunFolder(folder)
    if not run.is_run:
        raise not_a_run(path)
    return run, None


def read_run(path: str, run: RunFolder, step: int | None, sha256: str | None) -> Source:
    """Read a checkpoint of a run: of a step, with a digest, or the newest that is valid."""
    if sha256 is None or step is not None:
        source = read_checkpoint(path, find_checkpoint(run, path, step))
        skipped = tuple(valid.newest(run.checkpoints)[1]) if step is None else ()
        return check_digest(replace(source, skipped=skipped), sha256)
    for folder in checkpoint.steps(run.checkpoints).values():
        weights = weights_of(folder)
        if weights.is_file() and digest_of(weights) == sha256:
            valid.verify(folder)
            return read_checkpoint(path, folder)
    raise other_weights(path, sha256)


def read_checkpoint(path: str, folder: Path) -> Source:
    """Read a checkpoint that verified."""
    return read_files(path, folder, weights_of(folder).name, int(folder.name.removeprefix("step-")))


def weights_of(folder: Path) -> Path:
    """Return the file of the weights that a checkpoint's run was evaluated with."""
    average = folder / "ema.safetensors"
    return average if average.is_file() else folder / "model.safetensors"


def read_files(path: str, folder: Path, name: str, step: int) -> Source:
    """Read a folder with weights, a recipe and a tokenizer, whose files have been verified."""
    recipe, tokenizer = read_parts(folder)
    file = folder / valid.BUFFERS
    return Source(
        path=path,
        step=step,
        recipe=recipe,
        tokenizer=tokenizer,
        weights=valid.read_tensors(folder / name),
        buffers=valid.read_tensors(file) if file.exists() else {},
        sha256=digest_of(folder / name),
    )


def digest_of(weights: Path) -> str:
    """Return the SHA-256 digest of a file of weights, and of the buffers beside it if there are any."""
    digest = hashlib.sha256()
    for file in (weights, weights.with_name(valid.BUFFERS)):
        if file.exists():
            with open_regular(file) as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()


def check_digest(source: Source, sha256: str | None) -> Source:
    """Return a source whose weights have a digest.

    Raises:
        RunError: they have another.
    """
    if sha256 is not None and source.sha256 != sha256:
        raise other_weights(source.path, sha256)
    return source


def other_weights(path: str, sha256: str) -> RunError:
    """Return the error of a source that does not have the weights of a digest."""
    return RunError(
        f"{path}: no weights here have the digest {sha256[:12]}..., with which the run began: it was trained further, "
        "or is another one. Bring them back; or leave out init_sha256, which begins another run."
    )


# What of a recipe follows from its source.


def with_model_of(recipe: Recipe, path: str, keeps_tokenizer: bool = False) -> Recipe:
    """Return a recipe that begins with the weights of a source: with its model, and its tokenizer.

    Args:
        recipe: the recipe.
        path: of the source.
        keeps_tokenizer: another tokenizer is put in afterwards.

    Raises:
        ConfigError: the tokenizer of a zip file cannot be named in a recipe; or as for `read_source`.
    """
    source = read_source(path)
    codec: Saved | None = None if keeps_tokenizer else Saved(path=tokenizer_path(path))
    recipe = replace(recipe, init=path, init_sha256=None, model=source.recipe.model)
    return recipe if codec is None else replace(recipe, tokenizer=codec)


def tokenizer_path(path: str) -> str:
    """Return the path of a source's tokenizer.

    Raises:
        ConfigError: the source is a zip file.
    """
    if Path(path).is_file():
        raise ConfigError(
            f"init: {path}: a recipe cannot name the tokenizer inside a zip file; unpack it into a folder and name "
            "that, or give a tokenizer by --tokenizer."
        )
    return f"{Path(path).as_posix()}/tokenizer.json"


# Put weights into a model.


@torch.no_grad()
def take_weights(model: Transformer, source: Source, codec: Codec) -> Fit:
    """Copy into a model each tensor of a source that has its name and its shape.

    Weights that belong to ids are copied only where the tokenizer is the same. A shorter table of learned positions
    takes the first rows of a longer one. A head that is not tied takes the embedding of a source in which it is.

    An adapter that the source lacks begins as it is drawn.

    Raises:
        ConfigError: nothing fits, or the source has an adapter that the model lacks.
    """
    check_adapter(model, source)
    ours = to_canonical(model, dict(model.named_parameters()))
    theirs, fit, added = without_loss(source.weights), Fit(), {*added_names(model)}
    if source.recipe.model.tied and not model.config.tied and "embedding.weight" in theirs:
        theirs["head.weight"] = theirs["embedding.weight"]
    same_ids = codec.digest == source.tokenizer.digest
    fit.unused.update({name: "of the training loss" for name in source.weights if name.startswith(LOSS_PREFIX)})
    fit.unused.update({name: "no such tensor here" for name in theirs if name not in ours})
    for name, target in list(ours.items()):
        if name not in theirs and name in added:
            continue
        if name not in theirs:
            fit.drawn[name] = "no such tensor there"
        elif name.startswith(OF_TOKENS) and not same_ids:
            fit.drawn[name] = "the tokenizer is another"
        elif (rows := fitting_rows(name, theirs[name], target)) is None:
            fit.drawn[name] = f"{shape(target)} here, {shape(theirs[name])} there"
        else:
            ours[name] = rows.to(target)
            fit.taken.append(name)
    if not fit.taken:
        raise ConfigError(
            f"init: {source.path}: none of its {len(theirs)} tensors fits this model: {listed(fit.drawn)}. Leave out "
            "what changes the model, or name another run."
        )
    parameters = dict(model.named_parameters())
    for name, tensor in from_canonical(model, ours).items():
        parameters[name].copy_(tensor)
    take_buffers(model, source, fit)
    return fit


def check_adapter(model: Transformer, source: Source) -> None:
    """Raise ConfigError if a source has an adapter that a model lacks: without it, it is another function."""
    theirs, ours = source.recipe.model.adapt, model.config.adapt
    if theirs.patterns and theirs != ours:
        raise ConfigError(
            f"init: {source.path}: its adapter {theirs} is not that of this model, {ours}; keep it, or make it part "
            f"of the weights first: nanotx merge {source.path} --run OUT"
        )


def fitting_rows(name: str, tensor: Tensor, target: Tensor) -> Tensor | None:
    """Return the part of a source's tensor that goes into a target; None if its shape does not fit."""
    if not tensor.is_floating_point():
        return None
    if name == POSITIONS and tensor.shape[1:] == target.shape[1:] and len(tensor) > len(target):
        return tensor[: len(target)]
    return tensor if tensor.shape == target.shape else None


def shape(tensor: Tensor) -> str:
    """Return a shape such as 64 x 32."""
    return " x ".join(map(str, tensor.shape)) or "a number"


def take_buffers(model: Transformer, source: Source, fit: Fit) -> None:
    """Copy the persistent buffers of a source that have the name and the shape of a model's."""
    for name, buffer in Buffers(model).tensors().items():
        tensor = source.buffers.get(name)
        if tensor is not None and tensor.shape == buffer.shape and tensor.dtype == buffer.dtype:
            buffer.copy_(tensor)
            fit.taken.append(name)
        else:
            fit.drawn[name] = "no such buffer there"


def describe(source: Source, fit: Fit, model: Transformer) -> list[str]:
    """Return lines for the user: what was taken from where, and whether it may change."""
    sizes = {name: param.numel() for name, param in to_canonical(model, dict(model.named_parameters())).items()}
    weights = sum(sizes.get(name, 0) for name in fit.taken)
    lines = [f"init: {source}: {len(fit.taken)} tensors, {weights:,} of {sum(sizes.values()):,} weights"]
    lines += [f"init: skipped: {reason}" for reason in source.skipped]
    if not is_pack(Path(source.path)) and (user := user_of(run_of(source.path)[0].path)):
        lines.append(
            f"init: {user} is training {source.path}, which will remove this checkpoint; to replay this run from its "
            "start, keep a copy: nanotx pack"
        )
    return lines
