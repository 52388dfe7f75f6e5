"""The loss by position in the window: how much it helps to have read more, and where reading more no longer helps."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Nats = NDArray[np.float64]
"""What each token of a text cost, in order."""


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
    """Return the mean loss over spans that double in length; one ends at the length that the model learned with.

    Args:
        nats: what each token cost.
        context: how many tokens a window has.
        learned: how many it had while the model learned.
    """
    end = min(context, len(nats))
    doubling = {2**power for power in range(end.bit_length())}
    edges = sorted({0, end, *(edge for edge in {*doubling, learned} if edge < end)})
    at, found = np.arange(len(nats)) % context, list[PositionSegment]()
    for before, last in pairwise(edges):
        here = nats[(at >= before) & (at < last)]
        found.append(PositionSegment(first=before + 1, last=last, tokens=len(here), loss=float(here.mean())))
    return found
