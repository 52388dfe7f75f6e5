"""A step taken under observation: the windows it learned from, and how far each weight moved."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from nanotx.layout import to_shared
from nanotx.model import Transformer
from nanotx.retaken import in_order, weights
from nanotx.tokenizers import Codec
from nanotx.trainer import Trainer


@dataclass(frozen=True, kw_only=True)
class Window:
    """What a step learned from."""

    token: int  # of the training text, at which it begins
    loss: float  # mean cross-entropy in nats per token, dropout as it was drawn
    text: str  # its tokens, and the one after them


@dataclass(frozen=True, kw_only=True)
class Change:
    """What a step did to some weights; norms are over all their numbers."""

    name: str
    numbers: int
    weight: float  # norm before the step
    gradient: float  # norm, as the optimizer got it
    update: float  # norm of what was added

    @property
    def ratio(self) -> float | None:
        """How large the update is beside the weights; None where these are zero."""
        return self.update / self.weight if self.weight else None


@dataclass(frozen=True, kw_only=True)
class Observed:
    """A step."""

    loss: float
    grad_norm: float  # before it was cut
    lr: float
    windows: list[Window]
    changes: list[Change]  # of each parameter, in the model's order


def observe(trainer: Trainer, codec: Codec) -> Observed:
    """Take the next step, and look."""
    step, plan = trainer.progress.step, trainer.recipe.train
    before = {name: one.clone() for name, one in weights(trainer).items()}
    with streams(trainer.model) as seen:
        numbers = trainer.gradient()
    losses = window_losses(trainer, seen)
    starts = trainer.windows.starts(step, plan.batch).tolist()
    texts = [codec.decode(trainer.windows.ids[start : start + trainer.model.context + 1].tolist()) for start in starts]
    gradients = norms(gradient(trainer))
    loss, norm = numbers["loss"], numbers["grad_norm"]
    refused = not math.isfinite(loss) or (not math.isfinite(norm) and not trainer.scaler.is_enabled())
    lr = 0.0 if refused else trainer.update()
    after = weights(trainer)
    updates = norms({name: after[name] - one for name, one in before.items()})
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
    """Within, what the head is given is kept, micro-batch by micro-batch."""
    seen: list[Tensor] = []
    hook = model.norm.register_forward_hook(lambda module, given, made: seen.append(made.detach()))
    try:
        yield seen
    finally:
        hook.remove()


@torch.no_grad()
def window_losses(trainer: Trainer, seen: list[Tensor]) -> list[float]:
    """The loss of each window of a step, from what the head was given."""
    plan, device = trainer.recipe.train, trainer.machine.device
    _, y = trainer.windows.batch(trainer.progress.step, plan.batch)
    found = []
    with trainer.machine.autocast():
        for streams, targets in zip(seen, y.chunk(plan.parts), strict=True):
            for stream, wanted in zip(streams, targets.to(device), strict=True):
                found.append(F.cross_entropy(trainer.model.scores(stream).float(), wanted).item())
    return found


def gradient(trainer: Trainer) -> dict[str, Tensor]:
    """The gradient of each weight, in the shared layout and the model's order."""
    named = trainer.model.named_parameters()
    found = {name: torch.zeros_like(one) if one.grad is None else one.grad for name, one in named}
    return in_order(trainer.model, to_shared(trainer.model, found))


def norms(tensors: dict[str, Tensor]) -> dict[str, float]:
    """The norm of each tensor."""
    plain = {name: one.coalesce().values() if one.is_sparse else one for name, one in tensors.items()}
    return {name: torch.linalg.vector_norm(one.detach().float()).item() for name, one in plain.items()}


def by_layer(changes: list[Change]) -> list[Change]:
    """The changes of each layer's parameters as one, in order: a block is a layer, and so is what stands outside."""
    layers: dict[str, list[Change]] = {}
    for change in changes:
        layers.setdefault(layer_of(change.name), []).append(change)
    return [
        Change(
            name=name,
            numbers=sum(one.numbers for one in ones),
            weight=math.hypot(*(one.weight for one in ones)),
            gradient=math.hypot(*(one.gradient for one in ones)),
            update=math.hypot(*(one.update for one in ones)),
        )
        for name, ones in layers.items()
    ]


def layer_of(name: str) -> str:
    """The layer of a parameter: `blocks.3` of `blocks.3.ffn.to_out.weight`, else the first word."""
    words = name.split(".")
    return ".".join(words[: 2 if words[0] == "blocks" else 1])
