"""Mixtures: rows of a batch from several texts, in given shares, chosen by a low-discrepancy rule.

Row n of the run (counted over all steps) is of the text in whose part of the unit interval the fractional part of
n times the golden ratio lies. So after any number of rows each text has had its share, give or take a few rows, and no
draw of chance decides how much of a text a short run reads. Which text a row is of, and which of its windows, are pure
functions of the seed and n: nothing is stored, and ranks may divide the rows in any way.

Each text has windows of its own (see `batches.py`), in an order of its own: it is read once before any of it is read
again, and no window has tokens of two texts.

Source: Knuth 1973, The Art of Computer Programming 3, section 6.4, theorem S (multiples of the golden ratio)
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from nanotx.data.batches import BLOCK, Order, Windows, covering, mix, window_starts
from nanotx.data.shares import Share
from nanotx.errors import DataError

CIRCLE = 1 << 32  # places of the unit interval
GOLDEN = 2654435769  # CIRCLE times the fractional part of the golden ratio, odd: every place comes once in CIRCLE rows
FOR_TEXTS = 1 << 61  # distinct from the numbers that the orders of windows are drawn from


@dataclass(frozen=True, kw_only=True, eq=False)
class MixedWindows(Windows):
    """Several texts, one after another in `ids`, as training examples."""

    shares: tuple[Share, ...]

    def __post_init__(self) -> None:
        for share in self.shares:
            if share.length <= self.context:
                raise DataError(
                    f"data: {share.name} has {share.length:,} tokens to train on, and no window of "
                    f"model.context={self.context} and a token to predict after it; try --model.context "
                    f"{max(1, share.length // 4)} or a longer text."
                )

    @property
    def per_epoch(self) -> int:
        """Return the number of windows of all texts together."""
        return sum(max(1, (share.length - self.context) // self.context) for share in self.shares)

    def starts(self, step: int, batch: int) -> Order:
        """Return where the windows of a step begin, for `batch` windows per step."""
        first, end = step * batch, (step + 1) * batch
        texts = self.texts(first, end)
        starts = np.empty(batch, np.int64)
        offset = 0
        for number, (share, before) in enumerate(zip(self.shares, self.counts(first), strict=True)):
            rows = np.flatnonzero(texts == number)
            starts[rows] = offset + self.starts_of(number, before, before + len(rows))
            offset += share.length
        return starts

    def starts_of(self, text: int, first: int, end: int) -> Order:
        """Return where some windows of a text begin in it: from the `first` that is read of it up to the `end`."""
        length, seed = self.shares[text].length, self.seeds[text]
        blocks = [window_starts(length, self.context, seed, number) for number in covering(first, end)]
        low = first // BLOCK * BLOCK
        return np.concatenate([np.empty(0, np.int64), *blocks])[first - low : end - low]

    def texts(self, first: int, end: int) -> NDArray[np.int64]:
        """Return the number of the text of each row from `first` to `end`."""
        rows = np.arange(first, end, dtype=np.uint64)
        places = (rows * np.uint64(GOLDEN) + np.uint64(self.shift)) % np.uint64(CIRCLE)
        return np.searchsorted(np.array(self.edges[1:-1], np.uint64), places, side="right")

    def counts(self, rows: int) -> list[int]:
        """Return how many of the first rows are of each text."""
        reached = [at_least(edge, rows, self.shift) for edge in self.edges]
        return [low - high for low, high in pairwise(reached)]

    @cached_property
    def edges(self) -> tuple[int, ...]:
        """Return where the part of each text begins on the circle, and where the last one ends."""
        sums = accumulate(share.weight for share in self.shares[:-1])
        return (0, *(round(total * CIRCLE) for total in sums), CIRCLE)

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """Return the seed of the order of each text."""
        keys = np.arange(len(self.shares), dtype=np.uint64) + np.uint64(FOR_TEXTS + 1)
        return tuple(int(key >> np.uint64(1)) for key in mix(keys, self.seed))

    @cached_property
    def shift(self) -> int:
        """Return where on the circle the first row is."""
        return int(mix(np.array([FOR_TEXTS], np.uint64), self.seed)[0]) % CIRCLE


def at_least(edge: int, rows: int, shift: int) -> int:
    """Return how many of the first rows have a place of at least `edge` on the circle."""
    return floor_sum(rows, CIRCLE, GOLDEN, shift + CIRCLE - edge) - floor_sum(rows, CIRCLE, GOLDEN, shift)


def floor_sum(count: int, divisor: int, factor: int, start: int) -> int:
    """Return the sum of (factor * i + start) // divisor for i below `count`, in a logarithmic number of operations.

    Source: Graham, Knuth & Patashnik 1994, Concrete Mathematics, section 3.5 (sums of floors, as in Euclid's algorithm)
    """
    total = 0
    while count:
        total += count * (count - 1) // 2 * (factor // divisor) + count * (start // divisor)
        factor, start = factor % divisor, start % divisor
        last = factor * count + start
        if last < divisor:
            break
        count, start = divmod(last, divisor)
        factor, divisor = divisor, factor
    return total
