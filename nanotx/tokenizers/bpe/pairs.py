"""Pairs and their positions: the inner loop of BPE training.

It works on plain sequences of integers, so that one source serves twice: the interpreter runs it on lists, and numba,
if installed, on arrays (`compiled.py`). Both give the same merges.
"""

import heapq
from typing import Any, NamedTuple

from nanotx.tokenizers.bpe.encoding import BYTES

WALL = -1  # separates two pieces, and marks a position that was merged away
Row = Any  # of integers: a list, or an array


class Line(NamedTuple):
    """All distinct pieces in one sequence, with a wall around each; every field has one value per position."""

    ids: Row
    weights: Row  # how often the piece occurs in the texts
    before: Row  # the previous position that is not merged away
    after: Row  # the next one
    pairs: Row  # number of the pair that begins here


class Pairs(NamedTuple):
    """All pairs by number, and their positions as linked lists."""

    lefts: list[int]
    rights: list[int]
    counts: list[int]  # weighted number of occurrences
    newest: list[int]  # the last entry in the two following lists, or -1
    places: list[int]
    older: list[int]


def merge_all(line: Line, first: Row, with_left: Row, with_right: Row, limits: tuple[int, int, int]) -> Any:
    """Merge the most frequent pair repeatedly; return the merges in order.

    Args:
        line: the pieces; modified in place.
        first: zeros, one per pair of bytes.
        with_left: zeros, one per possible id.
        with_right: likewise.
        limits: number of merges, minimal count of a pair, and maximal length of a token in bytes.
    """
    wanted, least, longest = limits
    pairs = Pairs([0], [0], [0], [-1], [0], [-1])  # number 0 means no pair
    count_bytes(line, pairs, first)
    heap = [
        (-pairs.counts[number], pairs.lefts[number], pairs.rights[number], number)
        for number in range(1, len(pairs.lefts))
    ]
    heapq.heapify(heap)
    merges, sizes = [(0, 0)], [1] * BYTES
    while len(heap) > 0 and len(merges) <= wanted:
        promised, left, right, pair = heapq.heappop(heap)
        if -promised < least:
            break
        count = pairs.counts[pair]
        if count < -promised:  # its count has decreased since it was pushed
            if count > 0:
                heapq.heappush(heap, (-count, left, right, pair))
            continue
        if sizes[left] + sizes[right] > longest:
            continue
        born = len(pairs.lefts)
        merge(line, pairs, pair, len(sizes), with_left, with_right)
        merges.append((left, right))
        sizes.append(sizes[left] + sizes[right])
        for number in range(born, len(pairs.lefts)):
            with_left[pairs.lefts[number]] = with_right[pairs.rights[number]] = 0
            if pairs.counts[number] > 0:
                heapq.heappush(heap, (-pairs.counts[number], pairs.lefts[number], pairs.rights[number], number))
    return merges[1:]


def count_bytes(line: Line, pairs: Pairs, first: Row) -> None:
    """Count the pairs before the first merge."""
    ids, weights, numbers, counts = line.ids, line.weights, line.pairs, pairs.counts
    newest, places, older = pairs.newest, pairs.places, pairs.older
    for at in range(len(ids) - 1):
        left, right = ids[at], ids[at + 1]
        if left == WALL or right == WALL:
            continue
        pair = first[left * BYTES + right]
        if pair == 0:
            pair = first[left * BYTES + right] = new_pair(pairs, left, right)
        numbers[at] = pair
        counts[pair] += weights[at]
        older.append(newest[pair])
        newest[pair] = len(places)
        places.append(at)


def merge(line: Line, pairs: Pairs, pair: int, new: int, with_left: Row, with_right: Row) -> None:
    """Replace each occurrence of a pair with the id `new`, from left to right, and update all counts."""
    ids, weights, before, after, numbers = line.ids, line.weights, line.before, line.after, line.pairs
    left, right, counts = pairs.lefts[pair], pairs.rights[pair], pairs.counts
    newest, places, older = pairs.newest, pairs.places, pairs.older
    for at in places_of(pairs, pair):
        other = after[at]
        if ids[at] != left or ids[other] != right:
            continue  # one of the two has been merged away
        previous, following, weight = before[at], after[other], weights[at]
        outside_left, outside_right = ids[previous], ids[following]
        ids[at], ids[other] = new, WALL
        after[at], before[following] = following, at
        if outside_left != WALL:
            counts[numbers[previous]] -= weight
            made = with_left[outside_left]
            if made == 0:
                made = with_left[outside_left] = new_pair(pairs, outside_left, new)
            numbers[previous] = made
            counts[made] += weight
            older.append(newest[made])
            newest[made] = len(places)
            places.append(previous)
        if outside_right != WALL:
            counts[numbers[other]] -= weight
            made = with_right[outside_right]
            if made == 0:
                made = with_right[outside_right] = new_pair(pairs, new, outside_right)
            numbers[at] = made
            counts[made] += weight
            older.append(newest[made])
            newest[made] = len(places)
            places.append(at)
    counts[pair] = 0


def new_pair(pairs: Pairs, left: int, right: int) -> int:
    """Number a new pair and return its number."""
    pairs.lefts.append(left)
    pairs.rights.append(right)
    pairs.counts.append(0)
    pairs.newest.append(-1)
    return len(pairs.lefts) - 1


def places_of(pairs: Pairs, pair: int) -> list[int]:
    """Return the present and former positions of a pair, from left to right."""
    places, older = pairs.places, pairs.older
    positions, entry, ordered = [0], pairs.newest[pair], True
    while entry >= 0:
        place = places[entry]
        ordered = ordered and (place < positions[-1] or len(positions) == 1)
        positions.append(place)
        entry = older[entry]
    positions.reverse()
    positions.pop()
    if not ordered:
        positions.sort()
    return positions


HELPERS = (count_bytes, merge, new_pair, places_of)
"""Functions that the loop calls."""
