"""Laws of the data: each window occurs once per epoch, in an order that is a pure function of seed and step."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch

from nanotx.data.batches import Windows
from nanotx.data.documents import PackedWindows
from nanotx.errors import LawBroken


def targets_shifted(windows: Windows, step: int, batch: int) -> None:
    """Raise LawBroken unless each row of a step is a window of the text, whose targets are the next tokens.

    Args:
        windows: the text as training examples.
        step: any.
        batch: rows per step.

    Raises:
        LawBroken: a row is wrong; the message says which, and what it holds.
    """
    x, y = windows.batch(step, batch)
    starts = windows.starts(step, batch)
    if x.shape != (batch, windows.context) or y.shape != x.shape or x.dtype != torch.int64 or y.dtype != torch.int64:
        raise LawBroken(
            f"targets_shifted: {batch} rows of {windows.context} came as {x.shape} {x.dtype} and {y.shape} {y.dtype}."
        )
    for row, start in enumerate(starts.tolist()):
        ids = windows.ids[start : start + windows.context + 1].tolist()
        for name, got, want in (("is", x[row].tolist(), ids[:-1]), ("is to predict", y[row].tolist(), ids[1:])):
            if start < 0 or got != want:
                raise LawBroken(
                    f"targets_shifted: row {row} of step {step}, from {start} on, {name} {got}; expected {want}."
                )


def each_window_once(windows: Windows, batch: int, epochs: int) -> None:
    """Raise LawBroken unless every epoch visits each of its windows, adjacent from a first cut on, once.

    So a token is a target once per epoch, except for fewer than two windows of tokens at the ends of the text, which
    are not targets in this epoch (see `covers_both_ends`). No row is lost or repeated if an epoch ends in the middle of
    a step.

    Args:
        windows: the text as training examples.
        batch: rows per step, any number.
        epochs: the number of epochs to check.

    Raises:
        LawBroken: an epoch is wrong; the message says which, and where its windows begin.
    """
    count, context, length = windows.per_epoch, windows.context, len(windows.ids)
    if not length - count * context < 2 * context:
        raise LawBroken(
            f"each_window_once: an epoch of {count} windows of {context} leaves much out of {length} tokens."
        )
    steps = -(-epochs * count // batch)
    starts = np.concatenate([windows.starts(step, batch) for step in range(steps)])
    for epoch in range(epochs):
        begins = np.sort(starts[epoch * count : (epoch + 1) * count])
        cut = int(begins[0])
        if begins.tolist() != list(range(cut, cut + count * context, context)) or cut < 0:
            raise LawBroken(
                f"each_window_once: with {batch} rows per step, the windows of epoch {epoch} begin at "
                f"{begins.tolist()}; expected {count}, each {context} after another."
            )
        if cut + count * context >= length:
            raise LawBroken(
                f"each_window_once: the last window of epoch {epoch} has no next token in a text of {length}."
            )


def covers_both_ends(windows: Windows, epochs: int) -> None:
    """Raise LawBroken unless over many epochs every token is a target, except the first, which nothing precedes.

    An epoch leaves out fewer than two windows of tokens, at the ends of the text, and draws which ones: so the second
    token is a target in as many epochs as the last one.

    Args:
        windows: the text as training examples.
        epochs: the number of epochs to check; enough that every first cut is drawn.

    Raises:
        LawBroken: some tokens are never a target; the message says which.
    """
    context, length = windows.context, len(windows.ids)
    starts = np.unique(windows.starts(0, epochs * windows.per_epoch))
    targets = set(np.add.outer(starts, np.arange(1, context + 1)).ravel().tolist())
    if missed := [place for place in range(1, length) if place not in targets]:
        raise LawBroken(
            f"covers_both_ends: in {epochs} epochs of windows of {context}, of {length} tokens those at {missed} "
            f"are never a target."
        )


def batch_invariant_order(windows: Windows | PackedWindows, steps: Sequence[int], batch: int) -> None:
    """Raise LawBroken unless the rows of a step are the next windows of one order, whatever the batch.

    So micro-batches and ranks may divide the rows of a step in any way. The order is a pure function of seed and step:
    computed again, for one more row per step, or by an equal object, it is the same.

    Args:
        windows: the text as training examples.
        steps: the steps to check.
        batch: rows of each.

    Raises:
        LawBroken: the orders differ; the message gives the step, and where its rows begin in both.
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
    """Raise LawBroken unless each epoch and each seed has another order, and the first cut varies.

    Args:
        windows: a text of so many windows that no two orders are equal by chance.
        epochs: the number of epochs to check.
        seed: a different seed.

    Raises:
        LawBroken: two epochs or seeds have the same order; the message says which.
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
