"""Best-fit packing of any number of documents, planned by their lengths alone.

Documents of one length are placed together, so the plan does not grow with their number: it is a few thousand groups of
rows that are filled alike, whether ten documents are packed or ten million. Which document has the n-th place is then a
matter of counting (see `packed_files.py`).

The longest are placed first, each into the fullest row that has room for it: the rows are filled as `pack` in
`documents.py` fills them, one document at a time.

Source: best-fit decreasing, Johnson 1973, Near-Optimal Bin Packing Algorithms, chapter 2
"""

from bisect import bisect_left, bisect_right, insort
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Filling:
    """Documents of one length that each row of a group has: `count` of them, those of the first row first."""

    length: int
    count: int  # in each row
    first: int  # number of the first of them, among all documents in the order of their lengths, the longest first


@dataclass(frozen=True, kw_only=True)
class Group:
    """Rows that are filled alike."""

    rows: int
    fillings: tuple[Filling, ...] = ()

    def parted(self, rows: int) -> tuple["Group", "Group"]:
        """Return the first rows of the group, and the others."""
        others = tuple(replace(part, first=part.first + rows * part.count) for part in self.fillings)
        return replace(self, rows=rows), Group(rows=self.rows - rows, fillings=others)

    def row(self, number: int) -> list[tuple[int, int]]:
        """Return the number and the length of each document in a row of the group."""
        return [
            (part.first + number * part.count + place, part.length)
            for part in self.fillings
            for place in range(part.count)
        ]


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

    def row(self, number: int) -> list[tuple[int, int]]:
        """Return the number and the length of each document in a row, in their order."""
        at = bisect_right(self.ends, number)
        return self.groups[at].row(number - (self.ends[at] - self.groups[at].rows))


def best_fit(counts: NDArray[np.int64]) -> Plan:
    """Plan the rows of documents.

    Args:
        counts: how many documents there are of each length, from 0 up to the width of a row.
    """
    width = len(counts) - 1
    full, open_groups = list[Group](), dict[int, list[Group]]()  # those with room left, by how much
    rooms = list[int]()  # the keys of `open_groups`, ascending
    first = 0
    for length in reversed([int(length) for length in np.flatnonzero(counts) if length]):
        left = int(counts[length])
        while left:
            room, group = fullest(open_groups, rooms, length) or (width, Group(rows=max(1, left // (width // length))))
            count = min(left, room // length)
            rows = min(group.rows, left // count)
            filled, others = group.parted(rows)
            if others.rows:
                put(open_groups, rooms, room, others)
            filling = Filling(length=length, count=count, first=first)
            filled = replace(filled, fillings=(*filled.fillings, filling))
            if room > count * length:
                put(open_groups, rooms, room - count * length, filled)
            else:
                full.append(filled)
            first, left = first + rows * count, left - rows * count
    return Plan(width=width, groups=(*full, *(group for room in rooms for group in open_groups[room])))


def fullest(open_groups: dict[int, list[Group]], rooms: list[int], length: int) -> tuple[int, Group] | None:
    """Take out a group of the fullest rows that have room for a document, and return it after its room."""
    at = bisect_left(rooms, length)
    if at == len(rooms):
        return None
    room = rooms[at]
    group = open_groups[room].pop()
    if not open_groups[room]:
        del open_groups[room], rooms[at]
    return room, group


def put(open_groups: dict[int, list[Group]], rooms: list[int], room: int, group: Group) -> None:
    """Add a group of rows that have some room."""
    if room not in open_groups:
        open_groups[room] = []
        insort(rooms, room)
    open_groups[room].append(group)
