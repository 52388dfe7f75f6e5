"""Replay: repeat the steps of a run to the bit, and observe one of them.

Windows and dropout depend on seed, step and row alone, so every step after a checkpoint, or after the initial weights,
can be repeated. The bits also depend on device, dtype, number of threads and version of torch: the recipes record the
run's choice, and torch is configured in the same way.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional as F

from nanotx.errors import ConfigError, RunError
from nanotx.hardware.compiler import try_compile
from nanotx.hardware.device import choose_machine, make_deterministic
from nanotx.nn.canonical import to_canonical
from nanotx.nn.transformer import Transformer
from nanotx.runs.initial_weights import read_source, take_weights
from nanotx.runs.metrics_log import Row
from nanotx.runs.record import RunRecord
from nanotx.runs.resume import copy_in, load_state, restore
from nanotx.tokenizers import Codec
from nanotx.training.trainer import Trainer

NUMBERS = ("loss", "grad_norm")
"""Keys of a step's row that change if any earlier bit does."""


class Replay:
    """A trainer that repeats the steps of a recorded run."""

    def __init__(self, record: RunRecord, step: int) -> None:
        """Restore the run after a step.

        Args:
            record: the run.
            step: the step of one of its checkpoints, or 0 for the initial weights.

        Raises:
            RunError: the checkpoint is of another version of nanotx, or this machine lacks the run's device.
            DataError: the corpus cannot be read, or it has changed.
        """
        self.record = record
        self.first_mismatch: int | None = None  # the first repeated step whose numbers differ from the recorded ones
        self.segment = record.segment_at(step + 1)
        self.trainer = self.build(initial=not step)
        if step:
            known = self.segment.corpus_sha256 != ""  # its text is checked, and may differ from the checkpoint's
            restore(self.trainer, record.checkpoints[step], record.texts(self.segment), known)

    @property
    def step(self) -> int:
        """The number of steps taken."""
        return self.trainer.progress.step

    def build(self, initial: bool = False) -> Trainer:
        """Return a trainer with the recipe of the segment.

        Args:
            initial: begin with the weights of the run that the recipe names, if it names one.
        """
        recipe, texts = self.segment.recipe, self.record.texts(self.segment)
        try:
            machine = choose_machine(recipe.device, recipe.dtype, recipe.threads)
        except ConfigError as error:
            wanted, why = f"{recipe.device} in {recipe.dtype}", str(error).partition(";")[0]
            raise RunError(f"{self.record.name}: trained on {wanted}, which is not available: {why}.") from None
        if recipe.deterministic:
            make_deterministic(machine.device)
        if recipe.compile is True and (trial := try_compile(machine.device)).fault:
            raise RunError(f"{self.record.name}: the run was compiled; here {trial}.")
        model = recipe.model.build(texts.codec.vocab_size, recipe.seeds.weights)
        if initial and recipe.init is not None:
            take_weights(model, read_source(recipe.init, recipe.init_sha256), texts.codec)
        return Trainer(recipe, model, texts.windows, machine)

    def ready(self) -> None:
        """Switch to the recipe and the number of threads of the process that took the next step."""
        segment = self.record.segment_at(self.step + 1)
        if segment is not self.segment:
            self.segment = segment
            self.trainer = handed_over(self.trainer, self.build())
        torch.set_num_threads(self.trainer.machine.threads)

    def train_step(self) -> Row:
        """Repeat the next step and return its row."""
        self.ready()
        row = self.trainer.train_step()
        recorded = self.record.steps.get(self.step)
        if self.first_mismatch is None and recorded and not all(same(row[key], recorded[key]) for key in NUMBERS):
            self.first_mismatch = self.step
        return row

    def go_to(self, step: int, on_step: Callable[[int], None]) -> None:
        """Repeat all steps up to and including this one; call `on_step` with each."""
        while self.step < step:
            on_step(self.step + 1)
            self.train_step()


def handed_over(before: Trainer, after: Trainer) -> Trainer:
    """Return the second trainer, which continues where the first one is, as it would from a checkpoint."""
    same = before.recipe.optimizer.part == after.recipe.optimizer.part
    load_state(after, before.weights(), *(before.optimizer_state() if same else ({}, {})))
    if after.ema:
        copy_in(after.ema.averages, after.model, before.eval_weights())
    after.buffers.load(before.buffers.tensors())
    if after.scaler.is_enabled() and before.scaler.is_enabled():
        after.scaler.load_state_dict(before.scaler.state_dict())
    after.progress = before.progress
    return after


def same(now: float, recorded: float | None) -> bool:
    """Return whether a number equals the one in a metrics log to the last bit; what is not finite is null there."""
    return recorded == (now if math.isfinite(now) else None)


def weights(trainer: Trainer) -> dict[str, Tensor]:
    """Return the weights in the canonical layout, in the order of the model."""
    return in_order(trainer.model, trainer.weights())


def in_order(model: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Sort tensors in the canonical layout by the order of the model's parameters.

    A tensor without a parameter of its name comes with the first parameter of its module.
    """
    own = [name.split(".") for name, _ in model.named_parameters()]

    def place(name: str) -> int:
        words = name.split(".")
        shared = [sum(1 for _ in common_prefix(words, other)) for other in own]
        return shared.index(max(shared))

    return {name: tensors[name] for name in sorted(tensors, key=place)}


def common_prefix(first: list[str], second: list[str]) -> Iterator[str]:
    """Yield the words with which both lists begin."""
    for word, other in zip(first, second, strict=False):
        if word != other:
            return
        yield word


@contextmanager
def counting(last: int) -> Iterator[Callable[[int], None]]:
    """Show the current step on a terminal, within the context."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda step: None
        return
    with console.status("") as status:
        yield lambda step: status.update(f"step {step} of {last}")


@dataclass(frozen=True, kw_only=True)
class Window:
    """A window of the training text that a step was trained on."""

    token: int  # its first token, counted in the training text
    loss: float  # mean cross-entropy in nats per token, with the step's dropout
    text: str  # its tokens and the next one


@dataclass(frozen=True, kw_only=True)
class Change:
    """The change of some weights in a step."""

    name: str
    numbers: int  # of elements
    weight: float  # norm before the step
    gradient: float  # norm after clipping
    update: float  # norm of the difference

    @property
    def ratio(self) -> float | None:
        """Norm of the update divided by that of the weights; None if the weights are zero."""
        return self.update / self.weight if self.weight else None


@dataclass(frozen=True, kw_only=True)
class Observed:
    """An observed step."""

    loss: float
    grad_norm: float  # before clipping
    lr: float
    windows: list[Window]
    changes: list[Change]  # of each parameter, in the model's order


def observe(trainer: Trainer, codec: Codec) -> Observed:
    """Take the next step and return what it did."""
    step, plan = trainer.progress.step, trainer.recipe.train
    before = {name: tensor.clone() for name, tensor in weights(trainer).items()}
    with streams(trainer.model) as seen:
        numbers = trainer.compute_gradients()
    losses = window_losses(trainer, seen)
    starts = trainer.windows.starts(step, plan.batch_size).tolist()
    texts = [codec.decode(trainer.windows.ids[start : start + trainer.model.context + 1].tolist()) for start in starts]
    gradients = norms(gradient(trainer))
    loss, norm = numbers["loss"], numbers["grad_norm"]
    refused = not math.isfinite(loss) or (not math.isfinite(norm) and not trainer.scaler.is_enabled())
    lr = 0.0 if refused else trainer.optimizer_step()
    after = weights(trainer)
    updates = norms({name: after[name] - tensor for name, tensor in before.items()})
    return Observed(
        loss=loss,
        grad_norm=norm,
        lr=lr,
        windows=[
            Window(token=token, loss=loss, text=text) for token, loss, text in zip(starts, losses, texts, strict=True)
        ],
        changes=[
            Change(name=name, numbers=before[name].numel(), weight=size, gradient=gradients[name], update=updates[name])
            for name, size in norms(before).items()
        ],
    )


@contextmanager
def streams(model: Transformer) -> Iterator[list[Tensor]]:
    """Record the hidden states that the head reads, a tensor per micro-batch, within the context."""
    seen: list[Tensor] = []
    hook = model.norm.register_forward_hook(lambda module, given, made: seen.append(made.detach()))
    try:
        yield seen
    finally:
        hook.remove()


@torch.no_grad()
def window_losses(trainer: Trainer, hidden: list[Tensor]) -> list[float]:
    """Return the loss of each window of a step, from the recorded hidden states."""
    plan, device = trainer.recipe.train, trainer.machine.device
    _, y = trainer.windows.batch(trainer.progress.step, plan.batch_size)
    losses = []
    with trainer.machine.autocast():
        for streams, targets in zip(hidden, y.chunk(plan.num_micro_batches), strict=True):
            for stream, target in zip(streams, targets.to(device), strict=True):
                losses.append(F.cross_entropy(trainer.model.logits(stream).float(), target).item())
    return losses


def gradient(trainer: Trainer) -> dict[str, Tensor]:
    """Return the gradient of each weight, in the canonical layout and the order of the model."""
    named = trainer.model.named_parameters()
    gradients = {name: torch.zeros_like(param) if param.grad is None else param.grad for name, param in named}
    return in_order(trainer.model, to_canonical(trainer.model, gradients))


def norms(tensors: dict[str, Tensor]) -> dict[str, float]:
    """Return the norm of each tensor."""
    plain = {name: tensor.coalesce().values() if tensor.is_sparse else tensor for name, tensor in tensors.items()}
    return {name: torch.linalg.vector_norm(tensor.detach().float()).item() for name, tensor in plain.items()}


def by_layer(changes: list[Change]) -> list[Change]:
    """Return the changes added up by layer, in order; each module outside the blocks is a layer too."""
    layers: dict[str, list[Change]] = {}
    for change in changes:
        layers.setdefault(layer_of(change.name), []).append(change)
    return [
        Change(
            name=name,
            numbers=sum(change.numbers for change in members),
            weight=math.hypot(*(change.weight for change in members)),
            gradient=math.hypot(*(change.gradient for change in members)),
            update=math.hypot(*(change.update for change in members)),
        )
        for name, members in layers.items()
    ]


def layer_of(name: str) -> str:
    """Return the layer of a parameter: `blocks.3` of `blocks.3.ffn.to_out.weight`, else the first word."""
    words = name.split(".")
    return ".".join(words[: 2 if words[0] == "blocks" else 1])
