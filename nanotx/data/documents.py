"""Documents: a text of many parts that are read one by one, and their packing into rows of the context's length.

Any corpus may give its ids as `Documents`: the ids one after another, where each document begins, and which ids are
learned. `pack` lays whole documents into rows, as many as fit; what is left of a row is padding, never learned.
A row is read in one of two ways:

- joined: as one text, so that a document reads those before it in its row;
- apart: each document as if it were alone (see `nanotx/nn/documents.py`), and no document predicts the next one.

Documents that stay on the disk are packed by `packed_files.py`.
"""

from abc import ABC, abstractmethod
from bisect import bisect_left, insort
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from nanotx.data.batches import CPU, Order, permute
from nanotx.data.stored_ids import DiskIds
from nanotx.errors import DataError
from nanotx.nn.loss.chunked_loss import IGNORE
from nanotx.nn.shapes import Tokens

Rows = slice | Order

PADDING = 0
"""The id in the places of a row that no document fills; it is never a target, and no document reads it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Documents:
    """The ids of documents, one after another."""

    ids: NDArray[np.integer]
    starts: NDArray[np.int64]  # where each document begins, ascending; the first begins at 0
    counted: NDArray[np.bool_] | None = None  # which ids are learned, as targets; None for all of them

    def __post_init__(self) -> None:
        starts, size = self.starts, len(self.ids)
        if not len(starts) or starts[0] != 0 or (np.diff(starts) <= 0).any() or starts[-1] >= size:
            raise DataError(
                f"documents: expected where each begins, from 0 ascending to less than {size}, got {starts}."
            )
        if self.counted is not None and len(self.counted) != size:
            raise DataError(f"documents: {len(self.counted)} marks of what is learned, for {size} ids.")

    @property
    def ends(self) -> NDArray[np.int64]:
        """Return where each document ends."""
        return np.append(self.starts[1:], len(self.ids))


class PackedRows(ABC):
    """Rows of documents: each has the ids of a window and the one after it."""

    apart: bool  # whether each document is read as if it were alone

    @property
    @abstractmethod
    def context(self) -> int:
        """Return the number of tokens that a row reads."""

    @property
    def flat(self) -> NDArray[np.integer] | DiskIds:
        """Return the ids of all rows, one after another."""
        return FlatRows(self)

    @property
    @abstractmethod
    def targets(self) -> int:
        """Return the number of ids that are learned."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of rows."""

    @abstractmethod
    def read(self, rows: Rows) -> NDArray[np.int32]:
        """Return the ids of some rows, "rows context+1"."""

    @abstractmethod
    def numbers_of(self, rows: Rows) -> NDArray[np.int32]:
        """Return the number of each id's document in its row, from 0; the padding has a number of its own."""

    @abstractmethod
    def counted_of(self, rows: Rows) -> NDArray[np.bool_]:
        """Return which ids of some rows are learned, as targets."""

    def indices(self, rows: Rows) -> Order:
        """Return the numbers of some rows."""
        return np.arange(*rows.indices(len(self))) if isinstance(rows, slice) else rows

    def spread(self, count: int) -> "Packed":
        """Return so many rows of these, evenly spread, or all where there are no more."""
        count = min(count, len(self))
        rows = np.arange(count) * len(self) // max(1, count)
        ids, numbers, counted = self.read(rows), self.numbers_of(rows), self.counted_of(rows)
        return Packed(ids=ids, numbers=numbers, counted=counted, apart=self.apart)

    def learned(self, rows: Rows) -> NDArray[np.bool_]:
        """Return which targets of some rows are learned."""
        learned = self.counted_of(rows)[:, 1:]
        if not self.apart:
            return learned
        numbers = self.numbers_of(rows)
        return learned & (numbers[:, 1:] == numbers[:, :-1])

    def batch(self, rows: Rows) -> tuple[Tokens, Tokens]:
        """Return the inputs of some rows, and the next token of each: IGNORE where it is not learned."""
        ids = self.read(rows).astype(np.int64)
        y = np.where(self.learned(rows), ids[:, 1:], IGNORE)
        return torch.from_numpy(ids[:, :-1]), torch.from_numpy(y)

    def documents(self, rows: Rows) -> Tokens | None:
        """Return the number of each input's document; None where rows are read as one text."""
        return torch.from_numpy(self.numbers_of(rows)[:, :-1].astype(np.int64)) if self.apart else None


@dataclass(frozen=True, kw_only=True, eq=False)
class Packed(PackedRows):
    """Rows of documents in memory."""

    ids: NDArray[np.int32]  # "rows context+1"
    numbers: NDArray[np.int32]  # of each id's document in its row, from 0; the padding has a number of its own
    counted: NDArray[np.bool_]  # which ids are learned, as targets
    apart: bool  # whether each document is read as if it were alone

    @property
    def context(self) -> int:
        """See `PackedRows.context`."""
        return self.ids.shape[1] - 1

    @property
    def flat(self) -> NDArray[np.int32]:
        """See `PackedRows.flat`."""
        return self.ids.reshape(-1)

    @cached_property
    def targets(self) -> int:
        """See `PackedRows.targets`."""
        return int(self.learned(np.arange(len(self.ids))).sum())

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, rows: Rows) -> NDArray[np.int32]:
        """See `PackedRows.read`."""
        return self.ids[rows]

    def numbers_of(self, rows: Rows) -> NDArray[np.int32]:
        """See `PackedRows.numbers_of`."""
        return self.numbers[rows]

    def counted_of(self, rows: Rows) -> NDArray[np.bool_]:
        """See `PackedRows.counted_of`."""
        return self.counted[rows]


class FlatRows(DiskIds):
    """The ids of packed rows, one row after another, padding included."""

    def __init__(self, rows: PackedRows) -> None:
        self.packed, self.width = rows, rows.context + 1
        self.count, self.dtype = len(rows) * self.width, np.dtype(np.int32)

    def read(self, first: int, count: int) -> NDArray[np.integer]:
        """See `DiskIds.read`."""
        low, high = first // self.width, -(-(first + count) // self.width)
        return self.packed.read(np.arange(low, high)).reshape(-1)[first - low * self.width :][:count]


def pack(documents: Documents, context: int, apart: bool) -> Packed:
    """Pack documents into rows, the longest first, each into the fullest row that has room for it.

    A document of more than `context + 1` ids is cut into pieces that overlap by one id, so that each id is a target
    once; every piece is a document then.

    Source: best-fit decreasing, Johnson 1973, Near-Optimal Bin Packing Algorithms, chapter 2
    """
    width = context + 1
    first, end, whole = pieces(documents, width)
    order = np.argsort(first - end, kind="stable")
    rows, room = list[list[int]](), list[tuple[int, int]]()  # room: (ids that are left, row), ascending
    for piece in order.tolist():
        length = int(end[piece] - first[piece])
        at = bisect_left(room, (length, -1))
        left, row = room.pop(at) if at < len(room) else (width, len(rows))
        if row == len(rows):
            rows.append([])
        rows[row].append(piece)
        if left > length:
            insort(room, (left - length, row))
    ids, counted = np.full((len(rows), width), PADDING, np.int32), np.zeros((len(rows), width), bool)
    numbers = np.zeros((len(rows), width), np.int32)
    for row, members in enumerate(rows):
        begin = 0
        for number, piece in enumerate(members):
            source, place = slice(first[piece], end[piece]), slice(begin, begin + int(end[piece] - first[piece]))
            ids[row, place], numbers[row, place] = documents.ids[source], number
            counted[row, place] = True if documents.counted is None else documents.counted[source]
            counted[row, begin] &= bool(whole[piece])  # the first id of a piece was the last of the one before
            begin = place.stop
        numbers[row, begin:] = len(members)
    return Packed(ids=ids, numbers=numbers, counted=counted, apart=apart)


def pieces(documents: Documents, width: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Return where pieces of at most `width` ids begin and end, and whether each begins its document."""
    step = width - 1
    counts = np.maximum(1, -(-(documents.ends - documents.starts - 1) // step))
    within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    first = np.repeat(documents.starts, counts) + within * step
    return first, np.minimum(first + width, np.repeat(documents.ends, counts)), within == 0


@dataclass(frozen=True, kw_only=True, eq=False)
class PackedWindows:
    """Packed documents as training examples: every epoch reads all rows, in an order of its own.

    As with `Windows`, the rows of a step are a pure function of seed and step.
    """

    packed: PackedRows
    seed: int
    device: torch.device = CPU  # where batches are

    masked = True
    """Some targets are not learned."""

    @property
    def context(self) -> int:
        """Return the number of tokens that a row reads."""
        return self.packed.context

    @property
    def ids(self) -> NDArray[np.integer] | DiskIds:
        """Return the ids of all rows, one after another."""
        return self.packed.flat

    @property
    def per_epoch(self) -> int:
        """Return the number of rows."""
        return len(self.packed)

    def order(self, step: int, batch: int) -> Order:
        """Return the rows of a step."""
        return row_order(step * batch, (step + 1) * batch, self.per_epoch, self.seed)

    def starts(self, step: int, batch: int) -> Order:
        """Return where the rows of a step begin, in the ids of all rows."""
        return self.order(step, batch) * (self.context + 1)

    def batch(self, step: int, batch: int, rows: range | None = None) -> tuple[Tokens, Tokens]:
        """Return the inputs of a step, and the next token of each: IGNORE where it is not learned.

        Args:
            step: the step.
            batch: rows per step.
            rows: those of the step that are wanted; None for all of them.
        """
        x, y = self.packed.batch(self.wanted(step, batch, rows))
        return x.to(self.device), y.to(self.device)

    def documents(self, step: int, batch: int, rows: range | None = None) -> Tokens | None:
        """Return the number of each input's document; None where rows are read as one text."""
        numbers = self.packed.documents(self.wanted(step, batch, rows))
        return None if numbers is None else numbers.to(self.device)

    def wanted(self, step: int, batch: int, rows: range | None) -> Order:
        """Return some rows of a step, or all of them."""
        order = self.order(step, batch)
        return order if rows is None else order[rows.start : rows.stop]

    def learned(self, step: int, batch: int) -> int:
        """Return the number of targets of a step that are learned, those of all its rows."""
        return int(self.packed.learned(self.order(step, batch)).sum())


def row_order(first: int, end: int, count: int, seed: int) -> Order:
    """Return which rows are read from the `first` that is read up to the `end`, of so many, each once an epoch."""
    index = np.arange(first, end, dtype=np.int64)
    return permute(index % count, count, seed, index // count) if len(index) else index
