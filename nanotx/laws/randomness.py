"""Laws of dropout: a mask depends on the row of the batch, however it is split, and on the place in the model."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn

from nanotx.config.registry import Slot
from nanotx.config.schema import fields
from nanotx.errors import ConfigError, LawBroken
from nanotx.laws.values import cotangent, require_close
from nanotx.laws.weights import seeded
from nanotx.nn.dropout import Dropout, named_dropouts, row_seeded

FRACTION = 0.3
"""Fraction that each dropout drops where a law of dropout is tried."""

ROWS = 4
"""Rows of a batch that is split."""

MIN_PLACES = 64
"""Two masks of fewer numbers may be equal by chance."""

Call = tuple[str, tuple[int, ...], Tensor]
"""A call of a dropout: its name, where its input begins in each dimension but the batch, and which numbers it kept."""


def accumulates_alike(module: nn.Module, x: Tensor, seed: int = 0, tolerance: float = 1e-5) -> None:
    """Raise LawBroken unless rows have the same outputs, masks and gradients however their training batch is split.

    Args:
        module: of a stream or of ids, in training mode.
        x: its input, of an even number of rows.
        seed: of the step.
        tolerance: by how much numbers may differ, relative to the largest (or 1).

    Raises:
        LawBroken: a mask, the outputs or the gradient of a parameter differ; the message says which.
    """
    whole, want, gradients = training_pass(module, x, seed, len(x))
    for size in (len(x), len(x) // 2, 1):
        calls, got, sums = training_pass(module, x, seed, size)
        what = f"{len(x)} rows in micro-batches of {size}"
        require_same_masks(calls, whole, what)
        require_close("accumulates_alike", got, want, tolerance, f"{what}: outputs; draw by nanotx.nn.dropout alone")
        for name, gradient in gradients.items():
            require_close("accumulates_alike", sums[name], gradient, 10 * tolerance, f"{what}: gradient of {name}")


def require_same_masks(calls: list[Call], whole: list[Call], what: str) -> None:
    """Raise LawBroken unless the dropouts were called in the same way, with the same masks."""
    places, want = ([call[:2] for call in some] for some in (calls, whole))
    if places != want:
        raise LawBroken(f"accumulates_alike: {what}: dropouts are called at {places}, and in one batch at {want}.")
    for (name, _, got), (_, _, mask) in zip(calls, whole, strict=True):
        if not torch.equal(got, mask):
            raise LawBroken(f"accumulates_alike: {what}: the dropout {name!r} has another mask.")


def masks_distinct(module: nn.Module, x: Tensor, seed: int = 0) -> None:
    """Raise LawBroken if a dropout is called twice on the same places in a pass, or two draw the same mask.

    Args:
        module: of a stream or of ids, in training mode.
        x: its input.
        seed: of the step.

    Raises:
        LawBroken: the message names the dropouts.
    """
    calls = training_pass(module, x, seed, len(x))[0]
    for (name, start, mask), (other, other_start, other_mask) in combinations(calls, 2):
        if name == other and overlap(start, mask.shape[1:], other_start, other_mask.shape[1:]):
            raise LawBroken(
                f"masks_distinct: the dropout {name!r} is called twice on the same places, and drops the same of both; "
                "build a Dropout for each of them, or apply what is used again within `reused`."
            )
        if name != other and mask.numel() >= MIN_PLACES and torch.equal(mask, other_mask):
            raise LawBroken(f"masks_distinct: the dropouts {name!r} and {other!r} draw the same mask.")


def overlap(
    start: tuple[int, ...], sizes: tuple[int, ...], other_start: tuple[int, ...], other_sizes: tuple[int, ...]
) -> bool:
    """Return whether two boxes have a place in common."""
    boxes = zip(start, sizes, other_start, other_sizes, strict=True)
    return all(first < other + width and other < first + size for first, size, other, width in boxes)


def training_pass(module: nn.Module, x: Tensor, seed: int, size: int) -> tuple[list[Call], Tensor, dict[str, Tensor]]:
    """Run micro-batches of `size` rows; return the calls of dropouts, the outputs, and the gradients by name."""
    dropouts = named_dropouts(module)
    weights = {name: weight for name, weight in module.named_parameters() if weight.requires_grad}
    gradients = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    outputs, calls = list[Tensor](), list[list[Call]]()
    for first in range(0, len(x), size):
        with (
            seeded(seed + first),
            row_seeded(dropouts, seed, range(first, first + size), x.device),
            recorded(dropouts) as these,
        ):
            y = module(x[first : first + size])
        outputs.append(y.detach())
        calls.append(these)
        if y.requires_grad:
            sent = torch.stack([cotangent(y.shape[1:], seed + row) for row in range(first, first + size)]).to(y)
            arrived = torch.autograd.grad(y, list(weights.values()), sent, allow_unused=True)
            for name, gradient in zip(weights, arrived, strict=True):
                gradients[name] += 0.0 if gradient is None else gradient.to_dense()
    return joined(calls), torch.cat(outputs), gradients


def joined(calls: list[list[Call]]) -> list[Call]:
    """Return the calls of a whole batch, from those of its micro-batches."""
    if len({len(some) for some in calls}) > 1:
        raise LawBroken(f"accumulates_alike: micro-batches call their dropouts {[*map(len, calls)]} times.")
    return [(same[0][0], same[0][1], torch.cat([mask for _, _, mask in same])) for same in zip(*calls, strict=True)]


@contextmanager
def recorded(dropouts: dict[str, Dropout]) -> Iterator[list[Call]]:
    """Append, inside this context, each call of a dropout to the list that it yields.

    A call with other keys than the dropout's own, as within `reused`, counts as one of another dropout.
    """
    calls: list[Call] = []
    keys = {name: dropout.row_keys for name, dropout in dropouts.items()}

    def hook(name: str) -> Any:
        def record(dropout: Dropout, args: tuple[Any, ...], kwargs: dict[str, Any], y: Tensor) -> None:
            start = tuple(kwargs.get("start", args[1] if len(args) > 1 else ())) or (0,) * (y.ndim - 1)
            used = dropout.row_keys
            who = name if used is None or used is keys[name] else f"{name} with key {int(used[0])}"
            if dropout.active:
                calls.append((who, start, dropout.forward(torch.ones_like(y), start).detach() > 0))

        return record

    hooks = [module.register_forward_hook(hook(name), with_kwargs=True) for name, module in dropouts.items()]
    try:
        yield calls
    finally:
        for handle in hooks:
            handle.remove()


def with_dropout(config: Any) -> Any:
    """Return a config in which each field named `dropout` is FRACTION, in its inner parts too, unless it is refused."""
    for name in fields(type(config)):
        value = getattr(config, name)
        if name == "dropout":
            new: Any = FRACTION
        elif isinstance(value, Slot):
            new = with_dropout(value)
        elif isinstance(value, tuple):
            new = tuple(with_dropout(inner) if isinstance(inner, Slot) else inner for inner in value)
        else:
            continue
        try:
            config = replace(config, **{name: new})
        except ConfigError:  # such as linear attention, which has no weights to drop
            continue
    return config
