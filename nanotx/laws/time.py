"""Laws of time, by gradients: nothing feels the future, the past is felt, and a window is as wide as it says."""

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
"""The greatest gradient that arrives at input `s` from what is asked of output `t`."""


def causal(
    layer: Layer, x: Tensor, cut: int | None = None, seed: int = 0, tolerance: float = 0.0, alive: bool = True
) -> None:
    """No output up to position `cut` feels an input after it, and together they feel the one at `cut`.

    A random cotangent is sent back from the outputs up to `cut`. A plain sum would not do: that of a layer norm's
    outputs has no gradient at all. Nor would NaN in the future: an honest mask multiplies it by zero.

    Args:
        layer: from `b t d` to `b t d`, with nothing random in it.
        x: an input of any scale.
        cut: the last position that is looked at; None looks at every one in turn, each in rows of a batch of its own.
        seed: of the cotangent.
        tolerance: the greatest gradient that counts as none, where a device's kernel is not exact.
        alive: whether `cut` itself must be felt; asked at ordinary scale, for a saturated softmax may ignore it.

    Raises:
        LawBroken: which position is felt, and by how much; or that `cut` is not.
    """
    cuts = list(range(x.shape[1])) if cut is None else [cut]
    felt = influence(layer, x, seed, cuts)
    details = f"input of shape {tuple(x.shape)}, largest {x.abs().max():.3g}, seed {seed}"
    last_ones, at = rearrange(torch.tensor(cuts), "c -> c 1"), torch.arange(x.shape[1])
    leaks = ~(felt <= tolerance) & (at > last_ones)  # a gradient that is no number is one, too
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
    """Every output feels its own input, and some earlier one; a layer that reads nothing breaks no law of time.

    Args:
        layer: from `b t d` to `b t d`, with nothing random in it.
        x: an input of ordinary scale; a saturated softmax may ignore much.
        seed: of the cotangent.
        window: how many positions an output looks at, its own the last of them; None for all of them. With a window of
            one no past is asked for.

    Raises:
        LawBroken: which output feels too little.
    """
    details = f"input of shape {tuple(x.shape)}, seed {seed}"
    for position, row in enumerate(influence(layer, x, seed, alone=True)):
        if not row[position] > 0:
            raise LawBroken(f"depends_on_past: output {position} does not feel its own position; {details}.")
        if position and window != 1 and not row[:position].max() > 0:
            raise LawBroken(f"depends_on_past: output {position} feels nothing of its past; {details}.")


def window(layer: Layer, x: Tensor, width: int, seed: int = 0, tolerance: float = 0.0) -> None:
    """An output feels the oldest position of its window, and nothing older.

    Args:
        layer: from `b t d` to `b t d`, with nothing random in it.
        x: an input of ordinary scale.
        width: how many positions an output looks at, its own the last of them.
        seed: of the cotangent.
        tolerance: the greatest gradient that counts as none.

    Raises:
        LawBroken: which output feels what is too old, or not the oldest.
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
    """Who feels whom: for each cut, the greatest gradient at each input from the outputs up to that cut.

    All cuts are looked at in one pass: each has rows of the batch for itself. A layer in which rows feel one another
    looks as if it felt the future, so that law comes first.

    Args:
        layer: from `b t d` to `b t d`.
        x: its input.
        seed: of the random cotangent, the same for all cuts.
        cuts: the last output of each row of the result; None for every position.
        alone: whether the output at the cut is asked alone, and not those before it.
    """
    batch, time, _ = x.shape
    last = torch.arange(time) if cuts is None else torch.tensor(cuts)
    rows = repeat(x.detach(), "b t d -> (c b) t d", c=len(last)).requires_grad_()
    at, limit = torch.arange(time), rearrange(last, "c -> c 1")
    asked = repeat((at == limit) if alone else (at <= limit), "c t -> (c b) t 1", b=batch)
    with without_parameter_gradients(layer):
        y = layer(rows)
    if not y.requires_grad:
        return torch.zeros(len(last), time)
    weights = repeat(cotangent((batch, *y.shape[1:]), seed), "b t d -> (c b) t d", c=len(last)) * asked
    (gradient,) = torch.autograd.grad(y, rows, weights.to(y), allow_unused=True, materialize_grads=True)
    return reduce(gradient.abs().float(), "(c b) t d -> c t", "max", b=batch).cpu()


@contextmanager
def without_parameter_gradients(layer: Layer) -> Iterator[None]:
    """Within, no gradient is asked of a layer's parameters: of so many rows they would take longer than the input's."""
    learned = [one for one in layer.parameters() if one.requires_grad] if isinstance(layer, nn.Module) else []
    for parameter in learned:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learned:
            parameter.requires_grad_(True)
