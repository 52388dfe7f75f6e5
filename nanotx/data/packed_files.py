"""Documents of token files of any size, packed into rows that are read from the disk when they are wanted.

What is kept in memory is where each document begins, 4 bytes each, 12 more for each that is longer than a row, and the
plan of the rows, whose size does not depend on their number (`packing_plan.py`). The ends of documents are read from
the files once, in blocks. Only within a block are documents sorted by their lengths: where the n-th longest of all
begins is found by counting how many of each length are in each block.

A document that is longer than a row is cut into pieces that overlap by one id, as in `pack`. Each document is read as
if it were alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanotx.data.documents import PADDING, PackedRows, Rows
from nanotx.data.packing_plan import Plan, best_fit
from nanotx.data.stored_ids import DiskIds

BLOCK = 1 << 16
"""Documents that are sorted together: what is computed of so many stays in the caches of a core."""

BLOCK_LENGTHS = 16
"""In a block there are so many documents at least for each length of the rows, whose counts take 16 bytes."""

OVERLAP = 1
"""Ids that two neighbouring pieces of a document share."""

Numbers = NDArray[np.signedinteger[Any]]  # of 32 bits where they fit
Lengths = NDArray[np.int64]
NONE = np.empty(0, np.int32)


@dataclass(frozen=True, kw_only=True, eq=False)
class PackedFile(PackedRows):
    """Rows of the documents of a text on the disk."""

    ids: DiskIds
    plan: Plan
    pieces: "Pieces"
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
        return self.filled - len(self.pieces)

    @property
    def filled(self) -> int:
        """Return the number of places that are no padding."""
        return self.pieces.size

    def __len__(self) -> int:
        return len(self.plan)

    def read(self, rows: Rows) -> NDArray[np.int32]:
        """See `PackedRows.read`."""
        planned = [self.plan.row(number) for number in self.indices(rows).tolist()]
        pieces = np.array([piece for row in planned for piece in row], np.int64).reshape(-1, 2)
        starts = self.pieces.starts(pieces[:, 0])
        self.ids.read_ahead(starts, pieces[:, 1])
        next_start = iter(starts.tolist())
        ids = np.full((len(planned), self.plan.width), PADDING, np.int32)
        for own, row in zip(ids, planned, strict=True):
            at = 0
            for _, length in row:
                own[at : at + length] = self.ids.read(next(next_start), length)
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


@dataclass(frozen=True, kw_only=True, eq=False)
class Pieces:
    """Where the pieces of documents begin, numbered from the longest to the shortest, and then as in the text.

    Pieces as long as a row come first. They are counted, not kept, as each begins a stride after the one before it. The
    others are kept in the order of their blocks, and within a block of their lengths: what has one length in one block
    is a run, and the pieces of a run have neighbouring numbers.
    """

    width: int  # ids of a row
    size: int  # ids of all pieces
    blocks: NDArray[np.int64]  # from where what begins in each block is counted
    long_starts: Numbers  # where each document begins that has pieces as long as a row
    long_before: NDArray[np.int64]  # how many such pieces there are before it, and in the end all of them
    long_places: NDArray[np.int64]  # where those of each block begin in `long_starts`
    begins: Numbers  # of the other pieces, in the order of their runs
    runs: NDArray[np.int64]  # the number of the first piece of each run: the longest first, then block by block
    places: NDArray[np.int64]  # where each run begins in `begins`

    def __len__(self) -> int:
        return int(self.long_before[-1]) + len(self.begins)

    def starts(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return where some pieces begin."""
        starts = np.empty(len(numbers), np.int64)
        is_long = numbers < self.long_before[-1]
        long, short = numbers[is_long], numbers[~is_long]
        at = np.searchsorted(self.long_before, long, "right") - 1
        block = np.searchsorted(self.long_places, at, "right") - 1
        earlier = (long - self.long_before[at]) * (self.width - OVERLAP)
        starts[is_long] = self.blocks[block] + self.long_starts[at] + earlier
        run = np.searchsorted(self.runs, short, "right") - 1
        begins = self.begins[self.places[run] + short - self.runs[run]]
        starts[~is_long] = self.blocks[run % max(1, len(self.blocks))] + begins
        return starts


@dataclass(frozen=True, kw_only=True, eq=False)
class Block:
    """The pieces of neighbouring documents."""

    start: int  # the id from which all beginnings are counted
    long_starts: Numbers  # where each document begins that has pieces as long as a row
    long_counts: Numbers  # how many of these it has
    begins: Numbers  # of the others, the shortest first
    counts: NDArray[np.int64]  # how many pieces there are of each length, from 0 up to the width of a row
    documents_whole: int  # how many documents fit a row
    documents_cut: int  # how many are longer


def pack_file(ids: DiskIds, context: int) -> PackedFile:
    """Pack the documents of a text on the disk into rows of `context + 1` ids."""
    width = context + 1
    blocks = [
        cut_documents(starts, ends, width) for starts, ends in documents_of(ids, max(BLOCK, BLOCK_LENGTHS * width))
    ]
    counts = np.array([block.counts for block in blocks], np.int64).reshape(-1, width + 1)
    return PackedFile(
        ids=ids,
        plan=best_fit(counts.sum(axis=0)),
        pieces=joined(blocks, counts),
        documents_whole=sum(block.documents_whole for block in blocks),
        documents_cut=sum(block.documents_cut for block in blocks),
    )


def cut_documents(starts: Lengths, ends: Lengths, width: int) -> Block:
    """Cut neighbouring documents into pieces, and sort these by their lengths."""
    start, size = int(starts[0]), int(ends[-1] - starts[0])
    kind: Any = np.int32 if size < 1 << 31 else np.int64
    begins = (starts - start).astype(kind)
    lengths = (ends - starts).astype(kind)
    long = np.flatnonzero(lengths >= width)
    long_starts, long_lengths = begins[long], lengths[long]
    long_counts, rest = long_pieces(long_lengths, width)
    begins[long] += long_counts * kind(width - OVERLAP)
    lengths[long] = rest
    order = np.argsort(lengths.astype(np.uint16) if width < 1 << 16 else lengths, kind="stable")  # 16 bits: by radix
    counts = np.bincount(lengths, minlength=width + 1)
    begins = begins[order[counts[0] :]]
    counts[0], counts[width] = 0, long_counts.sum(dtype=np.int64)
    cut = int((long_lengths > width).sum())
    return Block(
        start=start,
        long_starts=long_starts,
        long_counts=long_counts,
        begins=begins,
        counts=counts,
        documents_whole=len(starts) - cut,
        documents_cut=cut,
    )


def long_pieces(lengths: Numbers, width: int) -> tuple[Numbers, Numbers]:
    """Return how many pieces as long as a row there are of each document, and the length of the last one.

    Args:
        lengths: of documents that fill a row, or more than one.
        width: ids of a row.

    Returns:
        The numbers, and the lengths of what follows, `OVERLAP` included; 0 where nothing does.
    """
    counts, rest = np.divmod(lengths - lengths.dtype.type(OVERLAP), lengths.dtype.type(width - OVERLAP))
    return counts, np.where(rest, rest + lengths.dtype.type(OVERLAP), 0)


def joined(blocks: list[Block], counts: NDArray[np.int64]) -> Pieces:
    """Join the pieces of blocks.

    Args:
        blocks: the blocks, in the order of the text.
        counts: how many pieces there are of each length in each block.
    """
    width = counts.shape[1] - 1
    short = counts[:, :width]
    places = (np.cumsum(short) - short.ravel()).reshape(short.shape)
    runs = np.cumsum(short.T[::-1]).reshape(width, -1) - short.T[::-1]
    long_places = np.cumsum([0, *(len(block.long_starts) for block in blocks)])
    long_before = np.zeros(long_places[-1] + 1, np.int64)
    long_before[1:] = np.concatenate([NONE, *(block.long_counts for block in blocks)])
    np.cumsum(long_before, out=long_before)
    return Pieces(
        width=width,
        size=int(counts.sum(axis=0) @ np.arange(width + 1)),
        blocks=np.array([block.start for block in blocks], np.int64),
        long_starts=np.concatenate([NONE, *(block.long_starts for block in blocks)]),
        long_before=long_before,
        long_places=long_places[:-1],
        begins=np.concatenate([NONE, *(block.begins for block in blocks)]),
        runs=(long_before[-1] + runs).ravel(),
        places=places.T[::-1].ravel(),
    )


def documents_of(ids: DiskIds, at_once: int) -> Iterator[tuple[Lengths, Lengths]]:
    """Yield where documents begin and end, `at_once` or a few more at a time; ids after the last end are one too."""
    begin, end, size, waiting = 0, 0, 0, list[Lengths]()
    for ends in ids.blocks_of_ends(0, len(ids), at_once):
        if len(ends):
            waiting.append(ends)
            end, size = int(ends[-1]), size + len(ends)
        if size >= at_once:
            edges = np.concatenate([[begin], *waiting])
            yield edges[:-1], edges[1:]
            begin, size, waiting = end, 0, []
    if end < len(ids):
        waiting.append(np.array([len(ids)]))
    if waiting:
        edges = np.concatenate([[begin], *waiting])
        yield edges[:-1], edges[1:]
