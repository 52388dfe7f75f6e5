"""Laws of time, by gradients: no output depends on the future, all depend on the past, and windows have their width."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from einops import rearrange, reduce, repeat
from jaxtyping import Float
from torch import Tensor, nn

from nanotx.errors import LawBroken
from nanotx.laws.values import cotangent

Layer = Callable[[Tensor], Tensor]
Influence = Float[Tensor, "t s"]
"""The largest gradient at input `s` from output `t`."""


def causal(
    layer: Layer, x: Tensor, cut: int | None = None, seed: int = 0, tolerance: float = 0.0, alive: bool = True
) -> None:
    """Raise LawBroken if an output up to position `cut` depends on a later input, or all ignore the input at `cut`.

    A random cotangent is sent back from the outputs up to `cut`. A plain sum would not do: the sum of a layer norm's
    outputs has no gradient at all. Nor would NaN in the future: a correct mask multiplies it by zero.

    Args:
        layer: from `b t d` to `b t d`; deterministic.
        x: an input of any scale.
        cut: the last position of the past; None checks every position, each in batch rows of its own.
        seed: of the cotangent.
        tolerance: the largest gradient that counts as zero, for devices whose kernels are not exact.
        alive: whether an output must depend on `cut`; only at ordinary scale, as a saturated softmax may ignore it.

    Raises:
        LawBroken: a later position has a gradient (the message says which, and how much), or `cut` has none.
    """
    cuts = list(range(x.shape[1])) if cut is None else [cut]
    felt = influence(layer, x, seed, cuts)
    details = f"input of shape {tuple(x.shape)}, largest {x.abs().max():.3g}, seed {seed}"
    last_ones, at = rearrange(torch.tensor(cuts), "c -> c 1"), torch.arange(x.shape[1])
    leaks = ~(felt <= tolerance) & (at > last_ones)  # a NaN counts as a gradient
    for row, leaking, last in zip(felt, leaks, cuts, strict=True):
        if leaking.any():
            position = int(leaking.int().argmax())
            raise LawBroken(
                f"causal: outputs up to {last} feel position {position} (gradient {row[position]:.3g}); {details}."
            )
        if alive and not row[last] > 0:
            raise LawBroken(
                f"causal: outputs up to {last} do not feel position {last} itself, so nothing was shown; {details}."
            )


def depends_on_past(layer: Layer, x: Tensor, seed: int = 0, window: int | None = None) -> None:
    """Raise LawBroken unless every output depends on its own input and on an earlier one; a constant layer is causal.

    Args:
        layer: from `b t d` to `b t d`; deterministic.
        x: an input of ordinary scale; a saturated softmax may ignore much.
        seed: of the cotangent.
        window: the number of positions that an output reads, up to its own; None for all. With a window of one, no
            dependence on the past is required.

    Raises:
        LawBroken: an output lacks a dependence; the message says which.
    """
    details = f"input of shape {tuple(x.shape)}, seed {seed}"
    for position, row in enumerate(influence(layer, x, seed, alone=True)):
        if not row[position] > 0:
            raise LawBroken(f"depends_on_past: output {position} does not feel its own position; {details}.")
        if position and window != 1 and not row[:position].max() > 0:
            raise LawBroken(f"depends_on_past: output {position} feels nothing of its past; {details}.")


def window(layer: Layer, x: Tensor, width: int, seed: int = 0, tolerance: float = 0.0) -> None:
    """Raise LawBroken unless an output depends on the oldest position of its window, and on nothing older.

    Args:
        layer: from `b t d` to `b t d`; deterministic.
        x: an input of ordinary scale.
        width: the number of positions that an output reads, up to its own.
        seed: of the cotangent.
        tolerance: the largest gradient that counts as zero.

    Raises:
        LawBroken: an output depends on an older position, or not on the oldest; the message says which.
    """
    details = f"window {width}, input of shape {tuple(x.shape)}, seed {seed}"
    for position, row in enumerate(influence(layer, x, seed, alone=True)):
        oldest = position - width + 1
        leaking = ~(row[: max(0, oldest)] <= tolerance)
        if leaking.any():
            older = int(leaking.int().argmax())
            raise LawBroken(f"window: output {position} feels position {older} (gradient {row[older]:.3g}); {details}.")
        if oldest >= 0 and not row[oldest] > 0:
            raise LawBroken(f"window: output {position} does not feel position {oldest}, its oldest; {details}.")


def influence(layer: Layer, x: Tensor, seed: int = 0, cuts: list[int] | None = None, alone: bool = False) -> Influence:
    """Return, for each cut, the largest gradient at each input from the outputs up to that cut.

    All cuts share one pass: each has batch rows of its own. A layer whose rows influence one another looks as if it
    depended on the future, so `batch_independent` is checked first.

    Args:
        layer: from `b t d` to `b t d`.
        x: its input.
        seed: of the random cotangent, the same for all cuts.
        cuts: the last output of each row of the result; None for every position.
        alone: whether to use the output at the cut alone, without those before it.
    """
    batch, time, _ = x.shape
    last = torch.arange(time) if cuts is None else torch.tensor(cuts)
    rows = repeat(x.detach(), "b t d -> (c b) t d", c=len(last)).requires_grad_()
    at, limit = torch.arange(time), rearrange(last, "c -> c 1")
    selected = repeat((at == limit) if alone else (at <= limit), "c t -> (c b) t 1", b=batch)
    with without_parameter_gradients(layer):
        y = layer(rows)
    if not y.requires_grad:
        return torch.zeros(len(last), time)
    weights = repeat(cotangent((batch, *y.shape[1:]), seed), "b t d -> (c b) t d", c=len(last)) * selected
    (gradient,) = torch.autograd.grad(y, rows, weights.to(y), allow_unused=True, materialize_grads=True)
    return reduce(gradient.abs().float(), "(c b) t d -> c t", "max", b=batch).cpu()


@contextmanager
def without_parameter_gradients(layer: Layer) -> Iterator[None]:
    """Disable, inside this context, the gradients of a layer's parameters, which for so many rows would be slow."""
    learned = [param for param in layer.parameters() if param.requires_grad] if isinstance(layer, nn.Module) else []
    for parameter in learned:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learned:
            parameter.requires_grad_(True)
