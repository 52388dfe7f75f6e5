"""Going on: a trainer, or a model alone, takes over what a checkpoint kept."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nanotx import checkpoint, verified
from nanotx.errors import DataError, RunError, TokenizerError
from nanotx.folder import RunFolder
from nanotx.layout import to_own
from nanotx.model import Transformer
from nanotx.save import FORMAT
from nanotx.texts import Texts
from nanotx.tokenizers import Codec, load
from nanotx.trainer import Progress, Row, Trainer


def tokenizer_of(folder: RunFolder) -> Codec:
    """A run's tokenizer, which is that of its newest checkpoint, before any text is read with it.

    Raises:
        TokenizerError: it cannot be read, or is another one.
    """
    codec = load(folder.tokenizer)
    for path in list(checkpoint.steps(folder.checkpoints).values())[:1]:
        with suppress(RunError, KeyError):  # a checkpoint that cannot be read is passed over later, and said to be
            check_tokenizer(path, read_state(path), codec)
    return codec


def go_on(trainer: Trainer, folder: RunFolder, texts: Texts, say: Callable[[str], None]) -> bool:
    """Take over the newest checkpoint of a run's folder that verifies; returns whether there is one.

    Raises:
        RunError: the checkpoint is not one of this run, or of a newer nanotx.
        DataError: the corpus is no longer the one that the run began with.
    """
    found, passed = verified.newest(folder.checkpoints)
    for reason in passed:
        say(f"passed over: {reason}")
    if found is None:
        say(f"{folder.path}: there is no checkpoint to go on from, so it begins at step 0.")
        return False
    restore(trainer, found, texts)
    say(f"{folder.path}: goes on from step {trainer.progress.step}.")
    return True


def restore(trainer: Trainer, path: Path, texts: Texts) -> None:
    """Take over a checkpoint that verified.

    Raises:
        RunError: it is not one of this run, or of a newer nanotx.
        DataError: the corpus is no longer the one that the run began with.
    """
    state = read_state(path)
    check_tokenizer(path, state, texts.codec)
    if state["corpus_sha256"] != texts.sha256:
        raise DataError(
            f"{path}: the run began with a corpus of SHA-256 {state['corpus_sha256'][:12]}..., and now it is "
            f"{texts.sha256[:12]}...; bring the old text back, or begin a new run."
        )
    averages = verified.read_tensors(path / "optimizer.safetensors")
    take_over(trainer, verified.read_tensors(path / "model.safetensors"), averages, state["optimizer"])
    if trainer.averaged:
        copy_in(trainer.averaged.averages, trainer.model, verified.read_tensors(path / "average.safetensors"))
    trainer.scaler.load_state_dict(state["scaler"])
    trainer.progress = Progress(**state["progress"])


def read_state(path: Path) -> dict[str, Any]:
    """What a checkpoint says of itself.

    Raises:
        RunError: it is of another nanotx.
    """
    state = verified.read_json(path / "trainer.json")
    if state.get("format") != FORMAT:
        raise RunError(f"{path}: format {state.get('format')!r}; this nanotx reads {FORMAT}.")
    return state


def check_tokenizer(path: Path, state: dict[str, Any], codec: Codec) -> None:
    """Check that a checkpoint is read with the tokenizer that it was trained with.

    Raises:
        TokenizerError: it is another one, by name or by digest.
    """
    said, here = state["tokenizer"], {"part": codec.part, "sha256": codec.digest}
    if said != here:
        raise TokenizerError(
            f"{path}: trained with the tokenizer {said['part']} of digest {said['sha256'][:12]}..., and this is "
            f"{here['part']} of {here['sha256'][:12]}...: the same ids would be other texts. Bring the old one back, "
            "or begin a new run."
        )


def take_over(
    trainer: Trainer, weights: dict[str, Tensor], averages: dict[str, Tensor], numbers: dict[str, float]
) -> None:
    """Go on from what `Trainer.weights` and `Trainer.averages` gave.

    Raises:
        RunError: names or shapes are not this model's; says which.
    """
    load_weights(trainer.model, weights)
    keys: dict[str, dict[str, Tensor]] = {}
    for path, tensor in averages.items():
        name, _, key = path.rpartition("/")
        keys.setdefault(key, {})[name] = tensor
    by_key = {key: to_own(trainer.model, tensors) for key, tensors in keys.items()}
    names = {parameter: name for name, parameter in trainer.model.named_parameters()}
    order = [names[parameter] for group in trainer.optimizer.param_groups for parameter in group["params"]]
    state: dict[int, Row] = {}
    for index, name in enumerate(order):
        found = {key: tensors[name].clone() for key, tensors in by_key.items() if name in tensors}
        if found:
            state[index] = found | {key: torch.tensor(value) for key, value in numbers.items()}
    trainer.optimizer.load_state_dict({"state": state, "param_groups": trainer.optimizer.state_dict()["param_groups"]})


@torch.no_grad()
def load_weights(model: Transformer, weights: dict[str, Tensor]) -> None:
    """Copy weights in the shared layout into a model, none missing, none left over.

    Raises:
        RunError: names or shapes are not this model's; says which.
    """
    copy_in(dict(model.named_parameters()), model, weights)


def copy_in(ours: Mapping[str, Tensor], model: Transformer, weights: dict[str, Tensor]) -> None:
    """Copy weights in the shared layout of a model into tensors named as its own, none missing, none left over.

    Raises:
        RunError: names or shapes are not this model's; says which.
    """
    try:
        theirs = to_own(model, weights)
    except (RuntimeError, KeyError) as error:
        raise RunError(f"weights: they do not fit this model: {error}.") from None
    for name in sorted(ours.keys() ^ theirs.keys()):
        raise RunError(f"weights: {name!r} is {'missing' if name in ours else 'not of this model'}.")
    for name, parameter in ours.items():
        if parameter.shape != theirs[name].shape:
            want, got = tuple(parameter.shape), tuple(theirs[name].shape)
            raise RunError(f"weights: {name!r} has shape {got}; this model wants {want}.")
        parameter.copy_(theirs[name])
