"""The loss by position in the window, which shows how much a longer context helps, and where it no longer does."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Nats = NDArray[np.float64]
"""The loss of each token of a text in nats, in order."""


@dataclass(frozen=True, kw_only=True)
class PositionSegment:
    """Neighbouring positions of all windows; the first of a window is 1, because one token is read before it."""

    first: int
    last: int
    tokens: int
    loss: float  # nats per token


def losses(nats: Nats, context: int) -> Nats:
    """Return the mean loss at each position of windows of a context's length; the text may end within one."""
    at = np.arange(len(nats)) % context
    return np.bincount(at, weights=nats) / np.bincount(at)


def position_segments(nats: Nats, context: int, learned: int) -> list[PositionSegment]:
    """Return the mean loss over segments that double in length; one ends at the context of training.

    Args:
        nats: the loss of each token.
        context: tokens of a window.
        learned: tokens of a window in training.
    """
    end = min(context, len(nats))
    doubling = {2**power for power in range(end.bit_length())}
    edges = sorted({0, end, *(edge for edge in {*doubling, learned} if edge < end)})
    at, segments = np.arange(len(nats)) % context, list[PositionSegment]()
    for before, last in pairwise(edges):
        here = nats[(at >= before) & (at < last)]
        segments.append(PositionSegment(first=before + 1, last=last, tokens=len(here), loss=float(here.mean())))
    return segments
