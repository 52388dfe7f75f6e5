"""The substrings of many pieces at once: how often each occurs, and which begins at each place.

Substrings of one length are numbered in the order of their code points, from those one shorter: the number of the
shorter one and the next character make a pair, and the pairs are sorted.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Whole = NDArray[np.int64]
NONE = -1
WALL = "\n"  # ends a piece in the row of characters; what it is does not matter


@dataclass(frozen=True, eq=False)
class Row:
    """The pieces side by side, each with a wall after it, the longest first.

    Args:
        counts: how often each piece occurs in the texts.
    """

    counts: Mapping[str, int]

    @cached_property
    def pieces(self) -> list[str]:
        """In an order of their own, whatever that of the texts."""
        return sorted(self.counts, key=lambda piece: (-len(piece), piece))

    @cached_property
    def text(self) -> str:
        """All their characters; between a piece's first place and its wall lie the places where it can be cut."""
        return "".join(piece + WALL for piece in self.pieces)

    @cached_property
    def sizes(self) -> Whole:
        """The length of each piece."""
        return np.array([len(piece) for piece in self.pieces], np.int64)

    @cached_property
    def firsts(self) -> Whole:
        """Where each piece begins."""
        return np.cumsum(self.sizes + 1) - self.sizes - 1

    @cached_property
    def weights(self) -> Whole:
        """How often each piece occurs."""
        return np.array([self.counts[piece] for piece in self.pieces], np.int64)

    @cached_property
    def letters(self) -> tuple[Whole, Whole]:
        """The pieces' code points in order, and the number of the one at each place; none at a wall."""
        points = np.frombuffer(self.text.encode("utf-32-le"), np.uint32).astype(np.int64)
        points[self.firsts + self.sizes] = NONE
        alphabet, numbers = np.unique(points, return_inverse=True)
        return alphabet[1:], numbers.reshape(-1) - 1


@dataclass(frozen=True)
class Level:
    """The substrings of one length."""

    counts: Whole  # how often each occurs in the texts
    at: NDArray[np.int32]  # which of them begins at each place


def levels(row: Row, longest: int, least: int) -> list[Level]:
    """The characters, then the substrings of 2, 3, ... up to `longest` of them that occur at least `least` times."""
    alphabet, letters = row.letters
    weights = np.repeat(row.weights, row.sizes + 1)
    counts = np.bincount(letters + 1, weights, len(alphabet) + 1)[1:].astype(np.int64)
    found = [Level(counts, letters.astype(np.int32))]
    for length in range(2, longest + 1):
        shorter = found[-1].at[: max(len(letters) - length + 1, 0)].astype(np.int64)
        following = letters[length - 1 :]
        places = np.flatnonzero((shorter >= 0) & (following >= 0))
        pairs = shorter[places] * len(alphabet) + following[places]
        _, numbers = np.unique(pairs, return_inverse=True)
        counts = np.bincount(numbers.reshape(-1), weights[places]).astype(np.int64)
        often = counts >= least
        if not often.any():
            break
        renumbered = np.where(often, np.cumsum(often) - 1, NONE)
        at = np.full(len(letters), NONE, np.int32)
        at[places] = renumbered[numbers.reshape(-1)]
        found.append(Level(counts[often], at))
    return found
