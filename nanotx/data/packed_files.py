"""Documents of token files of any size, packed into rows that are read from the disk when they are wanted.

What is kept in memory is where each document begins, 8 bytes each, and the plan of the rows, whose size does not depend
on their number (`packing_plan.py`). The ends of documents are read from the files in blocks, twice if they are many:
to count the documents of each length, and to put the beginning of each into its place.

A document that is longer than a row is cut into pieces that overlap by one id, as in `pack`. Each document is read as
if it were alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nanotx.data.documents import PADDING, PackedRows, Rows
from nanotx.data.packing_plan import Plan, best_fit
from nanotx.data.stored_ids import DiskIds

BLOCK = 1 << 26
"""Ids whose ends of documents are read together."""

KEPT = 1 << 22
"""Pieces of documents up to which their ends are read once; while they are packed they take 10 bytes more each."""

Lengths = NDArray[np.int64]
Short = NDArray[np.uint16]


@dataclass(frozen=True, kw_only=True, eq=False)
class PackedFile(PackedRows):
    """Rows of the documents of a text on the disk."""

    ids: DiskIds
    plan: Plan
    starts: NDArray[np.int64]  # where each document, or piece of one, begins, the longest first
    documents_whole: int  # how many documents fit a row
    documents_cut: int  # how many are longer, and are cut

    apart = True

    @property
    def context(self) -> int:
        """See `PackedRows.context`."""
        return self.plan.width - 1

    @property
    def targets(self) -> int:
        """See `PackedRows.targets`."""
        return self.filled - len(self.starts)

    @cached_property
    def filled(self) -> int:
        """Return the number of places that are no padding."""
        return sum(group.rows * part.count * part.length for group in self.plan.groups for part in group.fillings)

    def __len__(self) -> int:
        return len(self.plan)

    def read(self, rows: Rows) -> NDArray[np.int32]:
        """See `PackedRows.read`."""
        numbers = self.indices(rows)
        ids = np.full((len(numbers), self.plan.width), PADDING, np.int32)
        for row, number in zip(ids, numbers.tolist(), strict=True):
            at = 0
            for piece, length in self.plan.row(number):
                row[at : at + length] = self.ids.read(int(self.starts[piece]), length)
                at += length
        return ids

    def numbers_of(self, rows: Rows) -> NDArray[np.int32]:
        """See `PackedRows.numbers_of`."""
        numbers, lengths = self.lengths_of(rows)
        return np.repeat(numbers, lengths).reshape(-1, self.plan.width)

    def counted_of(self, rows: Rows) -> NDArray[np.bool_]:
        """See `PackedRows.counted_of`: the padding is not learned."""
        numbers, lengths = self.lengths_of(rows)
        padding = np.append(numbers[1:], 0) == 0  # what is last in its row
        return np.repeat(~padding, lengths).reshape(-1, self.plan.width)

    def lengths_of(self, rows: Rows) -> tuple[NDArray[np.int32], Lengths]:
        """Return the number of each document in its row, and its length; the padding comes last in each row."""
        numbers, lengths = list[int](), list[int]()
        for number in self.indices(rows).tolist():
            own = [length for _, length in self.plan.row(number)]
            lengths += [*own, self.plan.width - sum(own)]
            numbers += range(len(own) + 1)
        return np.array(numbers, np.int32), np.array(lengths, np.int64)


def pack_file(ids: DiskIds, context: int) -> PackedFile:
    """Pack the documents of a text on the disk into rows of `context + 1` ids."""
    width = context + 1
    counts, whole, cut = np.zeros(width + 1, np.int64), 0, 0
    kept: list[tuple[Lengths, Lengths | Short]] | None = []
    for starts, ends in documents_of(ids):
        first, lengths = short_pieces(starts, ends, width)
        counts += np.bincount(lengths, minlength=width + 1)
        longer = int((ends - starts > width).sum())
        whole, cut = whole + len(ends) - longer, cut + longer
        if kept is not None:
            kept = [*kept, (first, lengths)] if int(counts.sum()) <= KEPT else None
    places = np.cumsum(counts[::-1])[::-1] - counts  # where the documents of each length begin among all
    begins = np.empty(int(counts.sum()), np.int64)
    again = (short_pieces(starts, ends, width) for starts, ends in documents_of(ids)) if kept is None else kept
    for first, lengths in again:
        order = np.argsort(lengths, kind="stable")  # of 16 bits by radix
        of_length = np.bincount(lengths, minlength=width + 1)
        before = np.cumsum(of_length) - of_length
        begins[np.repeat(places - before, of_length) + np.arange(len(order))] = first[order]
        places += of_length
    return PackedFile(ids=ids, plan=best_fit(counts), starts=begins, documents_whole=whole, documents_cut=cut)


def short_pieces(starts: Lengths, ends: Lengths, width: int) -> tuple[Lengths, Lengths | Short]:
    """Return what `pieces` does, the lengths in 16 bits where they fit."""
    first, lengths = pieces(starts, ends, width)
    return first, lengths.astype(np.uint16) if width < 1 << 16 else lengths


def documents_of(ids: DiskIds) -> Iterator[tuple[Lengths, Lengths]]:
    """Yield where documents begin and end, some at a time; ids after the last end are a document too."""
    begin = 0
    for first in range(0, len(ids), BLOCK):
        count = min(BLOCK, len(ids) - first)
        ends = first + ids.document_ends(first, count)
        if first + count == len(ids) and (not len(ends) or ends[-1] < len(ids)):
            ends = np.append(ends, len(ids))
        if len(ends):
            yield np.append(begin, ends[:-1]), ends
            begin = int(ends[-1])


def pieces(starts: Lengths, ends: Lengths, width: int) -> tuple[Lengths, Lengths]:
    """Return where pieces of at most `width` ids begin, and their lengths; a document that fits is one piece."""
    step = width - 1
    counts = np.maximum(1, -(-(ends - starts - 1) // step))
    within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    first = np.repeat(starts, counts) + within * step
    return first, np.minimum(width, np.repeat(ends, counts) - first)
