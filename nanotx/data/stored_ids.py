"""Ids that stay on the disk: those of a token file, or of several joined, read when they are indexed.

Files are read by offset and not mapped into memory: if another process truncates a mapped file, SIGBUS kills this one,
while a read returns an error. The system caches the pages of both in the same way.
"""

import os
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from nanotx.errors import DataError
from nanotx.files import open_regular

Row = NDArray[np.integer[Any]]
Ends = NDArray[np.int64]
END = 8  # bytes of the end of a document in a token file
BLOCK = 1 << 22  # ids that are read at once
ENDS, FEW_ENDS = 1 << 16, 1 << 6  # ends of documents that are read at once: where all are wanted, and where one is


class DiskIds(ABC):
    """Read-only one-dimensional array, indexed by integers, slices and arrays of indices."""

    count: int
    dtype: np.dtype[Any]
    ndim = 1

    @abstractmethod
    def read(self, first: int, count: int) -> Row:
        """Return `count` ids from index `first` on, both within bounds.

        Raises:
            DataError: the file cannot be read, is shorter than it was, or holds an invalid id.
        """

    def document_ends(self, first: int, count: int) -> Ends:
        """Return where documents end among `count` ids from index `first` on: numbers of ids from there, ascending.

        The last of these ids may be the end of one; an end before `first` is not among them. Empty documents have no
        place of their own. Empty where no documents are marked.

        Raises:
            DataError: the file cannot be read, or its ends of documents are damaged.
        """
        return np.concatenate([np.empty(0, np.int64), *self.blocks_of_ends(first, count)])

    def blocks_of_ends(self, first: int, count: int, at_once: int = ENDS) -> Iterator[Ends]:
        """Yield what `document_ends` returns, in blocks of at most `at_once` documents.

        Raises:
            DataError: see `document_ends`.
        """
        yield from ()

    def read_ahead(self, starts: Ends, counts: Ends) -> None:  # noqa: B027  what is in memory needs no announcement
        """Announce what is read next, `counts` ids from each start, so that a disk reads all of it at the same time."""

    def rows(self, starts: Sequence[int], length: int) -> Row:
        """Return a row of `length` ids from each start."""
        self.read_ahead(np.array(starts, np.int64), np.full(len(starts), length))
        rows = [self.read(start, length) for start in starts]
        return np.stack(rows) if rows else np.empty((0, length), self.dtype)

    @property
    def shape(self) -> tuple[int]:
        """Return the length, as numpy does."""
        return (self.count,)

    @property
    def size(self) -> int:
        """Return the length, as numpy does."""
        return self.count

    def __len__(self) -> int:
        return self.count

    @overload
    def __getitem__(self, at: int) -> int: ...
    @overload
    def __getitem__(self, at: slice | NDArray[Any] | list[int]) -> Row: ...
    def __getitem__(self, at: int | slice | NDArray[Any] | list[int]) -> int | Row:
        if isinstance(at, int | np.integer):
            index = int(at) + self.count * (at < 0)
            if not 0 <= index < self.count:
                raise IndexError(f"index {at} is out of bounds for {self.count} ids")
            return int(self.read(index, 1)[0])
        if isinstance(at, slice):
            places = range(self.count)[at]
            if not places:
                return np.empty(0, self.dtype)
            low, high = min(places[0], places[-1]), max(places[0], places[-1])
            ids = self.read(low, high + 1 - low)[:: abs(places.step)]
            return ids if places.step > 0 else ids[::-1]
        return self._at(np.asarray(at))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Row:
        whole = self.read(0, self.count)
        return whole if dtype is None else whole.astype(dtype)

    def tolist(self) -> list[int]:
        """Return all ids as Python integers."""
        ids: list[int] = self.read(0, self.count).tolist()
        return ids

    def _at(self, places: NDArray[Any]) -> Row:
        """Return the ids at some indices; a row of neighbouring indices is read at once."""
        if places.dtype == bool:
            places = np.flatnonzero(places)
        if not places.size:
            return np.empty(places.shape, self.dtype)
        places = places + self.count * (places < 0)
        if places.min() < 0 or places.max() >= self.count:
            raise IndexError(f"index {places.max()} is out of bounds for {self.count} ids")
        ids = np.empty(places.shape, self.dtype)
        width = places.shape[-1] if places.ndim else 1
        for row, out in zip(places.reshape(-1, width), ids.reshape(-1, width), strict=True):
            low, high = int(row.min()), int(row.max())
            if high - low < 4 * width:
                out[:] = self.read(low, high + 1 - low)[row - low]
            else:
                out[:] = [self.read(int(place), 1)[0] for place in row]
        return ids


class StoredIds(DiskIds):
    """The ids of a token file.

    Args:
        path: the file.
        start: the offset of its first id, in bytes.
        width: bytes of an id.
        count: the number of ids.
        vocab_size: every id is below it.
        undefined: ids below it that the tokenizer does not define.
        ends: the offset of the end of the first document.
        documents: how many are marked.

    Raises:
        DataError: the file cannot be read.
    """

    def __init__(
        self,
        path: Path,
        start: int,
        width: int,
        count: int,
        vocab_size: int,
        undefined: Sequence[int] = (),
        ends: int = 0,
        documents: int = 0,
    ) -> None:
        self.path, self.start, self.count, self.vocab_size = path, start, count, vocab_size
        self.ends, self.documents = ends, documents
        self.undefined = tuple(undefined)
        self.dtype = np.dtype(f"<u{width}")
        try:
            self._stream = open_regular(path).detach()
        except OSError as error:
            raise DataError(f"{path}: no token file can be read here: {error.strerror}.") from None

    def __reduce__(self) -> tuple[Any, ...]:
        numbers = (self.start, self.dtype.itemsize, self.count, self.vocab_size)
        return StoredIds, (self.path, *numbers, self.undefined, self.ends, self.documents)

    def read(self, first: int, count: int) -> Row:
        """See `DiskIds.read`."""
        return self.checked(self._bytes(first, count), first)

    def rows(self, starts: Sequence[int], length: int) -> Row:
        """See `DiskIds.rows`; all rows are checked at once."""
        self.read_ahead(np.array(starts, np.int64), np.full(len(starts), length))
        rows = [self._bytes(start, length) for start in starts]
        ids = np.concatenate(rows) if rows else np.empty(0, self.dtype)
        if len(ids) and (int(ids.max()) >= self.vocab_size or self.undefined):
            for start, row in zip(starts, rows, strict=True):
                self.checked(row, start)
        return ids.reshape(-1, length)

    def read_ahead(self, starts: Ends, counts: Ends) -> None:
        """See `DiskIds.read_ahead`."""
        width = self.dtype.itemsize
        read_ahead(self._stream.fileno(), self.start + width * starts, width * counts)

    def blocks_of_ends(self, first: int, count: int, at_once: int = ENDS) -> Iterator[Ends]:
        """See `DiskIds.blocks_of_ends`."""
        low, high, last = 0, self.documents, 0
        while low < high:  # the first document that ends after `first`
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self._ends(middle, 1)[0] <= first else (low, middle)
        low = max(
            0, low - 2
        )  # the end before may be a damaged one that misled the search; then it is less than its own
        while low < self.documents and last < first + count:
            ends = self._ends(low, min(at_once + 1, self.documents - low))  # with the next one, to compare the last
            if ends[0] < last or (ends[1:] < ends[:-1]).any() or ends[-1] > self.count:
                raise DataError(f"{self.path}: its ends of documents are damaged; encode the texts again.")
            ends = ends[:at_once]
            begin, end = np.searchsorted(ends, (max(first, last), first + count), "right")
            low, last = low + len(ends), int(ends[-1])
            yield distinct(ends[begin:end]) - first

    def _ends(self, number: int, count: int) -> Ends:
        """Return how many ids of the file are up to the ends of some documents."""
        return np.frombuffer(self._read(self.ends + number * END, count * END), "<i8")

    def checked(self, ids: Row, first: int) -> Row:
        """Return ids that were read from index `first` on.

        Raises:
            DataError: an id is beyond the vocabulary, or undefined.
        """
        wrong = ids >= self.vocab_size
        fault = f"beyond the vocabulary of {self.vocab_size}"
        if self.undefined and not wrong.any():
            wrong, fault = np.isin(ids, self.undefined), "not defined by its tokenizer"
        if wrong.any():
            at = int(wrong.argmax())
            raise DataError(
                f"{self.path}: id {ids[at]} at index {first + at} is {fault}; the file was damaged after it was "
                "written; encode the texts again."
            )
        return ids

    def _bytes(self, first: int, count: int) -> Row:
        width = self.dtype.itemsize
        return np.frombuffer(self._read(self.start + first * width, count * width), self.dtype)

    def _read(self, offset: int, size: int) -> bytearray:
        """Return bytes of the file, all of which it has."""
        try:
            data = read_at(self._stream.fileno(), offset, size)
        except OSError as error:
            raise DataError(f"{self.path}: the token file cannot be read: {error.strerror}.") from None
        if len(data) < size:
            last = (offset + len(data) - self.start) // self.dtype.itemsize
            raise DataError(
                f"{self.path}: expected {self.count} ids, and it ends after {min(last, self.count)}: it was cut "
                "off after it was written; encode the texts again."
            )
        return data


class JoinedIds(DiskIds):
    """Concatenation of parts of several arrays of ids, none of them empty.

    Args:
        parts: for each, an array, the index of the first id, and the index after the last.
    """

    def __init__(self, parts: Sequence[tuple[DiskIds, int, int]]) -> None:
        self.parts = [part for part in parts if part[1] < part[2]]
        self.ends = list(accumulate(high - low for _, low, high in self.parts))
        self.count = self.ends[-1] if self.ends else 0
        width = max((ids.dtype.itemsize for ids, _, _ in self.parts), default=2)
        self.dtype = np.dtype(f"<u{width}")

    def read(self, first: int, count: int) -> Row:
        """See `DiskIds.read`."""
        pieces, end = list[Row](), first + count
        for number in range(bisect_right(self.ends, first), len(self.parts)):
            ids, low, high = self.parts[number]
            begin = self.ends[number] - (high - low)
            if begin >= end:
                break
            here = max(first, begin)
            pieces.append(ids.read(low + here - begin, min(end, self.ends[number]) - here))
        return pieces[0] if len(pieces) == 1 else np.concatenate([np.empty(0, self.dtype), *pieces])

    def read_ahead(self, starts: Ends, counts: Ends) -> None:
        """See `DiskIds.read_ahead`; what is cut by the end of a part is announced up to there."""
        numbers = np.searchsorted(self.ends, starts, "right")
        for number in np.unique(numbers).tolist():
            (ids, _, high), own = self.parts[number], numbers == number
            begins = starts[own] + (high - self.ends[number])
            ids.read_ahead(begins, np.minimum(counts[own], high - begins))

    def blocks_of_ends(self, first: int, count: int, at_once: int = ENDS) -> Iterator[Ends]:
        """See `DiskIds.blocks_of_ends`; where two parts are joined, a document ends."""
        end, last = first + count, 0
        for number in range(bisect_right(self.ends, first), len(self.parts)):
            ids, low, high = self.parts[number]
            begin = self.ends[number] - (high - low)
            if begin >= end:
                break
            here, there = max(first, begin), min(end, self.ends[number])
            for ends in ids.blocks_of_ends(low + here - begin, there - here, at_once):
                if len(ends):
                    yield ends + (here - first) if here > first else ends
                    last = int(ends[-1]) + here - first
            if there == self.ends[number] < self.count and there - first > last:
                yield np.array([there - first])
                last = there - first

    def rows(self, starts: Sequence[int], length: int) -> Row:
        """See `DiskIds.rows`."""
        if len(self.parts) == 1:
            ids, low, _ = self.parts[0]
            return ids.rows([low + start for start in starts], length)
        return super().rows(starts, length)


def distinct(ends: Ends) -> Ends:
    """Return the distinct numbers of some ascending ones; np.unique would not use their order."""
    rising = ends[1:] > ends[:-1]
    return ends if rising.all() else ends[np.append(True, rising)]


def read_ahead(file: int, starts: Ends, sizes: Ends) -> None:
    """Tell the system which bytes of an open file are read next; one read needs no announcement."""
    if len(starts) > 1 and hasattr(os, "posix_fadvise"):
        with suppress(OSError):  # a file system may know no advice
            for start, size in zip(starts.tolist(), sizes.tolist(), strict=True):
                os.posix_fadvise(file, start, size, os.POSIX_FADV_WILLNEED)


def read_at(file: int, offset: int, size: int) -> bytearray:
    """Return `size` bytes of an open file from an offset on, or fewer where it ends."""
    data = bytearray()
    while len(data) < size:
        if hasattr(os, "pread"):
            more = os.pread(file, min(size - len(data), 1 << 30), offset + len(data))
        else:  # Windows: other threads must not read it
            os.lseek(file, offset + len(data), os.SEEK_SET)
            more = os.read(file, min(size - len(data), 1 << 30))
        if not more:
            break
        data += more
    return data


def boundary(ids: DiskIds, at: int) -> int:
    """Return where the document that begins first at or after an id begins; where none does, where the last begins."""
    if not at:
        return 0
    for ends in ids.blocks_of_ends(at - 1, len(ids) - at + 1, FEW_ENDS):
        if len(ends) and at - 1 + ends[0] < len(ids):
            return at - 1 + int(ends[0])
    earlier = [int(ends[-1]) for ends in ids.blocks_of_ends(0, at - 1) if len(ends)]
    return max(earlier, default=0)
