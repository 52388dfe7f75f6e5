"""Best-fit packing of any number of documents, planned by their lengths alone.

Documents of one length are placed together, so the plan does not grow with their number: it is a few thousand groups of
rows that are filled alike, whether ten documents are packed or ten million. Which document has the n-th place is then a
matter of counting (see `packed_files.py`).

The longest are placed first, each into the fullest row that has room for it: the rows are filled as `pack` in
`documents.py` fills them, one document at a time.

Source: best-fit decreasing, Johnson 1973, Near-Optimal Bin Packing Algorithms, chapter 2
"""

from bisect import bisect_left, bisect_right, insort
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple, Optional

import numpy as np
from numpy.typing import NDArray


class Filling(NamedTuple):
    """Documents of one length that each of some rows has, those of the first row first.

    When rows are divided, both halves keep the filling and count from another row of it; so dividing copies nothing.
    """

    length: int
    each: int  # how many each row has
    first: int  # number of the first of them, among all documents in the order of their lengths, the longest first
    before: Optional["Filling"]  # what the rows had before
    skip: int  # rows that had `before` and come before the first of these


class Group(NamedTuple):
    """Rows that are filled alike."""

    rows: int
    filling: Filling | None = None  # the last one
    skip: int = 0  # rows that had it and come before the first of these

    def fillings(self) -> list[tuple[int, int, int]]:
        """Return the length, the count in each row and the first document of each filling, in their order."""
        fillings = list[tuple[int, int, int]]()
        filling, skip = self.filling, self.skip
        while filling:
            fillings.append((filling.length, filling.each, filling.first + skip * filling.each))
            skip += filling.skip
            filling = filling.before
        return fillings[::-1]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Rows of documents."""

    width: int  # ids of a row
    groups: tuple[Group, ...]

    @cached_property
    def ends(self) -> list[int]:
        """Return the number of rows up to the end of each group."""
        return list(accumulate(group.rows for group in self.groups))

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    @cached_property
    def seen(self) -> dict[int, list[tuple[int, int, int]]]:
        """Return the fillings of the groups of which a row was asked for."""
        return {}

    def row(self, number: int) -> list[tuple[int, int]]:
        """Return the number and the length of each document in a row, in their order."""
        group = bisect_right(self.ends, number)
        if group not in self.seen:
            self.seen[group] = self.groups[group].fillings()
        number -= self.ends[group] - self.groups[group].rows
        return [(first + number * each + at, length) for length, each, first in self.seen[group] for at in range(each)]


def best_fit(counts: NDArray[np.int64]) -> Plan:
    """Plan the rows of documents.

    Args:
        counts: how many documents there are of each length, from 0 up to the width of a row.
    """
    width = len(counts) - 1
    full, open_groups = list[Group](), dict[int, list[Group]]()  # those with room left, by how much
    rooms = list[int]()  # the keys of `open_groups`, ascending
    first = 0
    lengths = np.flatnonzero(counts[1:])[::-1] + 1
    for length, left in zip(lengths.tolist(), counts[lengths].tolist(), strict=True):
        while left:
            at = bisect_left(rooms, length)
            if at < len(rooms):  # the fullest rows that have room
                room = rooms[at]
                same = open_groups[room]
                available, before, skip = same.pop()
            else:
                room, same = width, []
                available, before, skip = max(1, left // (width // length)), None, 0
            each = min(left, room // length)
            rows = min(available, left // each)
            if rows < available:
                same.append(Group(available - rows, before, skip + rows))
            elif not same and room < width:
                del open_groups[room], rooms[at]
            filled = Group(rows, Filling(length, each, first, before, skip))
            room -= each * length
            if not room:
                full.append(filled)
            elif room in open_groups:
                open_groups[room].append(filled)
            else:
                open_groups[room] = [filled]
                insort(rooms, room)
            first, left = first + rows * each, left - rows * each
    return Plan(width=width, groups=(*full, *(group for room in rooms for group in open_groups[room])))
