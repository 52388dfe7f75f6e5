"""Laws of the data: each window once an epoch, in an order that is a pure function of seed and step."""

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
    """Every epoch shows each of its windows once, side by side from a first cut on, whatever the batch.

    Less than two windows of the text are left out, at its ends; no row is lost or doubled where one epoch ends in the
    middle of a step and the next begins.

    Args:
        windows: the text as training examples.
        batch: rows of a step, as many as you like.
        epochs: how many are looked at.

    Raises:
        LawBroken: in which epoch, and where its windows lie.
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
        if found.tolist() != list(range(cut, cut + count * context, context)) or not 0 <= cut < context:
            raise LawBroken(
                f"each_window_once: with {batch} rows a step, the windows of epoch {epoch} begin at {found.tolist()}; "
                f"expected {count}, each {context} after another, the first below {context}."
            )
        if cut + count * context >= length:
            raise LawBroken(
                f"each_window_once: the last window of epoch {epoch} has no next token in a text of {length}."
            )


def covers_both_ends(windows: Windows, epochs: int) -> None:
    """Over many epochs every token is a target but the first, and but what is left after the last whole window.

    An epoch leaves less than two windows out, at the text's ends, and which tokens these are is drawn anew: so the
    second token is a target in some epochs, and so is the last of as many tokens as make whole windows. Of a text that
    is shorter than two windows, the very last is.

    Args:
        windows: the text as training examples.
        epochs: how many are looked at; so many that every first cut is drawn.

    Raises:
        LawBroken: which tokens are never a target.
    """
    context, length = windows.context, len(windows.ids)
    starts = np.unique(windows.starts(0, epochs * windows.per_epoch))
    targets = set(np.add.outer(starts, np.arange(1, context + 1)).ravel().tolist())
    end = length if length < 2 * context else length - length % context
    if missed := [place for place in range(1, end) if place not in targets]:
        raise LawBroken(
            f"covers_both_ends: in {epochs} epochs of windows of {context}, of {length} tokens those at {missed} "
            f"are no target."
        )


def batch_invariant_order(windows: Windows, steps: Sequence[int], batch: int) -> None:
    """The windows stand in one order, of which the rows of a step are the next ones, whatever the batch.

    So micro-batches and ranks may share out the rows of a step in any way, and none is another's. The order is a pure
    function of seed and step: asked again, for one row more a step, or of a twin, it is the same.

    Args:
        windows: the text as training examples.
        steps: which ones are asked for.
        batch: rows of each.

    Raises:
        LawBroken: the step, and where its rows begin this way and that.
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
    """Each epoch has another order and many another first cut, and so has another seed.

    Args:
        windows: a text of so many windows that no two orders are alike by chance.
        epochs: how many are looked at.
        seed: another one.

    Raises:
        LawBroken: which epochs are alike, or that seeds are.
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
