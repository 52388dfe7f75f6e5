"""The ids of a token file, read from the file when they are asked for.

A file that is mapped into memory ends the process with SIGBUS when somebody truncates it; one that is read gives an
error.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from nanotx.errors import DataError
from nanotx.files import open_regular

Row = NDArray[np.integer[Any]]
BLOCK = 1 << 22  # ids that are checked at once


class StoredIds:
    """As a read-only array of one axis: it has a length, and ids at places, slices and arrays of places.

    Args:
        path: the file.
        start: where in it the first id begins, in bytes.
        width: bytes of an id.
        count: how many there are.
        vocab_size: what each of them is below.

    Raises:
        DataError: the file cannot be read, is shorter than it says, or an id in it is beyond the vocabulary.
    """

    def __init__(self, path: Path, start: int, width: int, count: int, vocab_size: int) -> None:
        self.path, self.start, self.count, self.vocab_size = path, start, count, vocab_size
        self.dtype: np.dtype[Any] = np.dtype(f"<u{width}")
        self.shape, self.size, self.ndim = (count,), count, 1
        try:
            self._stream = open_regular(path).detach()
        except OSError as error:
            raise DataError(f"{path}: no token file can be read here: {error.strerror}.") from None

    def __len__(self) -> int:
        return self.count

    @overload
    def __getitem__(self, at: int) -> int: ...
    @overload
    def __getitem__(self, at: slice | NDArray[Any] | list[int]) -> Row: ...
    def __getitem__(self, at: int | slice | NDArray[Any] | list[int]) -> int | Row:
        if isinstance(at, int | np.integer):
            place = int(at) + self.count * (at < 0)
            if not 0 <= place < self.count:
                raise IndexError(f"index {at} is out of bounds for {self.count} ids")
            return int(self._read(place, 1)[0])
        if isinstance(at, slice):
            places = range(self.count)[at]
            if not places:
                return np.empty(0, self.dtype)
            low, high = min(places[0], places[-1]), max(places[0], places[-1])
            found = self._read(low, high + 1 - low)[:: abs(places.step)]
            return found if places.step > 0 else found[::-1]
        return self._at(np.asarray(at))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Row:
        whole = self._read(0, self.count)
        return whole if dtype is None else whole.astype(dtype)

    def __reduce__(self) -> tuple[Any, ...]:
        return StoredIds, (self.path, self.start, self.dtype.itemsize, self.count, self.vocab_size)

    def tolist(self) -> list[int]:
        """All of them, as numbers of Python's."""
        found: list[int] = self._read(0, self.count).tolist()
        return found

    def check(self, undefined: Sequence[int] = ()) -> None:
        """Read all of them once, a few at a time.

        Args:
            undefined: ids below vocab_size that stand for nothing.

        Raises:
            DataError: as `StoredIds`, or one of them stands for nothing.
        """
        for first in range(0, self.count, BLOCK):
            found = self._read(first, min(BLOCK, self.count - first))
            if undefined and (wrong := np.isin(found, undefined)).any():
                at = int(wrong.argmax())
                raise DataError(
                    f"{self.path}: id {found[at]} at index {first + at} stands for nothing in its tokenizer; it was "
                    "damaged since it was made; encode the texts again."
                )

    def _at(self, places: NDArray[Any]) -> Row:
        """Those at places; a row of places that lie close together is read at once."""
        if places.dtype == bool:
            places = np.flatnonzero(places)
        if not places.size:
            return np.empty(places.shape, self.dtype)
        places = places + self.count * (places < 0)
        if places.min() < 0 or places.max() >= self.count:
            raise IndexError(f"index {places.max()} is out of bounds for {self.count} ids")
        found = np.empty(places.shape, self.dtype)
        width = places.shape[-1] if places.ndim else 1
        for row, out in zip(places.reshape(-1, width), found.reshape(-1, width), strict=True):
            low, high = int(row.min()), int(row.max())
            if high - low < 4 * width:
                out[:] = self._read(low, high + 1 - low)[row - low]
            else:
                out[:] = [self._read(int(place), 1)[0] for place in row]
        return found

    def _read(self, first: int, count: int) -> Row:
        width = self.dtype.itemsize
        try:
            data = read_at(self._stream.fileno(), self.start + first * width, count * width)
        except OSError as error:
            raise DataError(f"{self.path}: the token file cannot be read: {error.strerror}.") from None
        if len(data) < count * width:
            raise DataError(
                f"{self.path}: expected {self.count} ids, and it ends after {first + len(data) // width}: it was cut "
                "off since it was made; encode the texts again."
            )
        found = np.frombuffer(data, self.dtype)
        if count and int(found.max()) >= self.vocab_size:
            at = int((found >= self.vocab_size).argmax())
            raise DataError(
                f"{self.path}: id {found[at]} at index {first + at} is beyond the vocabulary of {self.vocab_size}; it "
                "was damaged since it was made; encode the texts again."
            )
        return found


def read_at(file: int, offset: int, size: int) -> bytearray:
    """So many bytes of an open file from an offset on, or fewer where it ends."""
    data = bytearray()
    while len(data) < size:
        if hasattr(os, "pread"):
            more = os.pread(file, min(size - len(data), 1 << 30), offset + len(data))
        else:  # Windows, where other threads must not read it
            os.lseek(file, offset + len(data), os.SEEK_SET)
            more = os.read(file, min(size - len(data), 1 << 30))
        if not more:
            break
        data += more
    return data
