"""Mixtures: rows of a batch from several texts, in given shares, chosen by a low-discrepancy rule.

Row n of the run (counted over all steps) is of the text in whose part of the unit interval the fractional part of
n times the golden ratio lies. So after any number of rows each text has had its share, give or take a few rows, and no
draw of chance decides how much of a text a short run reads. Which text a row is of, and which of its windows, are pure
functions of the seed and n: nothing is stored, and ranks may divide the rows in any way.

Each text has windows of its own (see `batches.py`), or packed rows of its own documents (see `documents.py`), in an
order of its own: it is read once before any of it is read again, and no row has tokens of two texts.

Source: Knuth 1973, The Art of Computer Programming 3, section 6.4, theorem S (multiples of the golden ratio)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from nanotx.data.batches import BLOCK, Order, Windows, covering, mix, window_starts
from nanotx.data.documents import PackedRows, PackedWindows, Rows, row_order
from nanotx.data.shares import Share
from nanotx.errors import DataError

CIRCLE = 1 << 32  # places of the unit interval
GOLDEN = 2654435769  # CIRCLE times the fractional part of the golden ratio, odd: every place comes once in CIRCLE rows
FOR_TEXTS = 1 << 61  # distinct from the numbers that the orders of windows are drawn from


@dataclass(frozen=True, kw_only=True, eq=False)
class Mixture:
    """Which text each row of a run is of."""

    shares: tuple[Share, ...]
    seed: int

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


@dataclass(frozen=True, kw_only=True, eq=False)
class MixedWindows(Mixture, Windows):
    """Several texts, one after another in `ids`, as training examples."""

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


@dataclass(frozen=True, kw_only=True, eq=False)
class MixedDocuments(Mixture, PackedWindows):
    """The packed documents of several texts as training examples; `packed` has their rows, one text after another."""

    packed: "JoinedRows"

    def order(self, step: int, batch: int) -> Order:
        """Return the rows of a step."""
        first, end = step * batch, (step + 1) * batch
        texts = self.texts(first, end)
        order = np.empty(batch, np.int64)
        for number, before in enumerate(self.counts(first)):
            rows = np.flatnonzero(texts == number)
            count = len(self.packed.parts[number])
            own = row_order(before, before + len(rows), count, self.seeds[number])
            order[rows] = self.packed.offsets[number] + own
        return order


class JoinedRows(PackedRows):
    """The rows of several texts, one text after another, all of one context; each document is read as if it were alone.

    Args:
        parts: the rows of each text, which has some.
    """

    apart = True

    def __init__(self, parts: Sequence[PackedRows]) -> None:
        self.parts = tuple(parts)
        self.offsets = (0, *accumulate(map(len, parts)))

    @property
    def context(self) -> int:
        """See `PackedRows.context`."""
        return self.parts[0].context

    @property
    def targets(self) -> int:
        """See `PackedRows.targets`."""
        return sum(part.targets for part in self.parts)

    def __len__(self) -> int:
        return self.offsets[-1]

    def read(self, rows: Rows) -> NDArray[np.int32]:
        """See `PackedRows.read`."""
        chosen = self.indices(rows)
        ids = np.empty((len(chosen), self.context + 1), np.int32)
        for part, at, own in self.by_part(chosen):
            ids[at] = part.read(own)
        return ids

    def numbers_of(self, rows: Rows) -> NDArray[np.int32]:
        """See `PackedRows.numbers_of`."""
        chosen = self.indices(rows)
        numbers = np.empty((len(chosen), self.context + 1), np.int32)
        for part, at, own in self.by_part(chosen):
            numbers[at] = part.numbers_of(own)
        return numbers

    def counted_of(self, rows: Rows) -> NDArray[np.bool_]:
        """See `PackedRows.counted_of`."""
        chosen = self.indices(rows)
        counted = np.empty((len(chosen), self.context + 1), bool)
        for part, at, own in self.by_part(chosen):
            counted[at] = part.counted_of(own)
        return counted

    def by_part(self, rows: Order) -> list[tuple[PackedRows, Order, Order]]:
        """Return for each text: which of some rows are of it, and their numbers in it."""
        texts = np.searchsorted(self.offsets, rows, side="right") - 1
        places = [np.flatnonzero(texts == number) for number in range(len(self.parts))]
        return [
            (part, at, rows[at] - offset)
            for part, at, offset in zip(self.parts, places, self.offsets[:-1], strict=True)
            if len(at)
        ]


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
