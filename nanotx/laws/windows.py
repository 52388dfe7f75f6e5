"""Laws of the data: each window once per epoch, in an order that is a pure function of seed and step."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch

from nanotx.data.batches import Windows
from nanotx.errors import LawBroken


def targets_shifted(windows: Windows, step: int, batch: int) -> None:
    """Each row of a step is a window of the text, and its target at every place is the next token.

    Args:
        windows: the text as training examples.
        step: any.
        batch: rows of it.

    Raises:
        LawBroken: which row, and what it holds.
    """
    x, y = windows.batch(step, batch)
    starts = windows.starts(step, batch)
    if x.shape != (batch, windows.context) or y.shape != x.shape or x.dtype != torch.int64 or y.dtype != torch.int64:
        raise LawBroken(
            f"targets_shifted: {batch} rows of {windows.context} came as {x.shape} {x.dtype} and {y.shape} {y.dtype}."
        )
    for row, start in enumerate(starts.tolist()):
        wanted = windows.ids[start : start + windows.context + 1].tolist()
        for name, got, want in (("is", x[row].tolist(), wanted[:-1]), ("is to predict", y[row].tolist(), wanted[1:])):
            if start < 0 or got != want:
                raise LawBroken(
                    f"targets_shifted: row {row} of step {step}, from {start} on, {name} {got}; expected {want}."
                )


def each_window_once(windows: Windows, batch: int, epochs: int) -> None:
    """Every epoch visits each of its windows once, adjacent from a first cut on, whatever the batch.

    So a token is a target once per epoch, but for fewer than two windows' worth at the ends of the text, which are no
    target in this epoch (see `covers_both_ends`). No row is lost or repeated where an epoch ends in the middle of a
    step.

    Args:
        windows: the text as training examples.
        batch: rows of a step, as many as you like.
        epochs: how many are checked.

    Raises:
        LawBroken: in which epoch, and where its windows begin.
    """
    count, context, length = windows.per_epoch, windows.context, len(windows.ids)
    if not length - count * context < 2 * context:
        raise LawBroken(
            f"each_window_once: an epoch of {count} windows of {context} leaves much out of {length} tokens."
        )
    steps = -(-epochs * count // batch)
    starts = np.concatenate([windows.starts(step, batch) for step in range(steps)])
    for epoch in range(epochs):
        found = np.sort(starts[epoch * count : (epoch + 1) * count])
        cut = int(found[0])
        if found.tolist() != list(range(cut, cut + count * context, context)) or cut < 0:
            raise LawBroken(
                f"each_window_once: with {batch} rows per step, the windows of epoch {epoch} begin at "
                f"{found.tolist()}; expected {count}, each {context} after another."
            )
        if cut + count * context >= length:
            raise LawBroken(
                f"each_window_once: the last window of epoch {epoch} has no next token in a text of {length}."
            )


def covers_both_ends(windows: Windows, epochs: int) -> None:
    """Over many epochs every token is a target, but for the first, which nothing precedes.

    An epoch leaves fewer than two windows out, at the text's ends, and draws which tokens these are: so the second
    token is a target in some epochs, and the last one is in as many.

    Args:
        windows: the text as training examples.
        epochs: how many are checked; enough that every first cut is drawn.

    Raises:
        LawBroken: which tokens are never a target.
    """
    context, length = windows.context, len(windows.ids)
    starts = np.unique(windows.starts(0, epochs * windows.per_epoch))
    targets = set(np.add.outer(starts, np.arange(1, context + 1)).ravel().tolist())
    if missed := [place for place in range(1, length) if place not in targets]:
        raise LawBroken(
            f"covers_both_ends: in {epochs} epochs of windows of {context}, of {length} tokens those at {missed} "
            f"are never a target."
        )


def batch_invariant_order(windows: Windows, steps: Sequence[int], batch: int) -> None:
    """The windows have one order, and the rows of a step are the next ones in it, whatever the batch.

    So micro-batches and ranks may divide the rows of a step in any way. The order is a pure function of seed and step:
    computed again, for one more row per step, or by an equal object, it is the same.

    Args:
        windows: the text as training examples.
        steps: which ones are checked.
        batch: rows of each.

    Raises:
        LawBroken: the step, and both places where its rows begin.
    """
    first = {step: windows.starts(step, batch).tolist() for step in steps}
    twin = dataclasses.replace(windows)
    for step in reversed(list(steps)):
        again = windows.starts(step, batch).tolist()
        if first[step] != again:
            raise LawBroken(
                f"batch_invariant_order: the {batch} rows of step {step} begin at {first[step]}, and asked again at "
                f"{again}."
            )
        for size in (batch, batch + 1):
            rows = windows.starts(step, size).tolist()
            alone = [int(twin.starts(step * size + row, 1)[0]) for row in range(size)]
            if rows != alone:
                raise LawBroken(
                    f"batch_invariant_order: the {size} rows of step {step} begin at {rows}, and one by one, of a "
                    f"twin, at {alone}."
                )


def reshuffled(windows: Windows, epochs: int, seed: int) -> None:
    """Each epoch has another order, most have another first cut, and another seed has other orders.

    Args:
        windows: a text of so many windows that no two orders are equal by chance.
        epochs: how many are checked.
        seed: another one.

    Raises:
        LawBroken: which epochs or seeds have the same order.
    """
    orders: dict[tuple[int, ...], int] = {}
    cuts: set[int] = set()
    for epoch in range(epochs):
        starts = windows.starts(epoch, windows.per_epoch)
        order = tuple((starts // windows.context).tolist())
        if order in orders:
            raise LawBroken(f"reshuffled: epochs {orders[order]} and {epoch} have one order, {list(order)}.")
        if order == tuple(sorted(order)):
            raise LawBroken(f"reshuffled: epoch {epoch} goes through the text from its beginning to its end.")
        orders[order] = epoch
        cuts.add(int(starts.min()))
    if len(cuts) == 1:
        raise LawBroken(f"reshuffled: {epochs} epochs are cut at {cuts.pop()}, all of them.")
    others = dataclasses.replace(windows, seed=seed).starts(0, windows.per_epoch).tolist()
    if others == windows.starts(0, windows.per_epoch).tolist():
        raise LawBroken(f"reshuffled: seeds {windows.seed} and {seed} have one order, {others}.")
