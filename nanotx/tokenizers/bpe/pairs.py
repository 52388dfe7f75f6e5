"""Pairs and where they stand: the one loop in which byte-pair learning spends its time.

Written on plain rows of numbers, so that one source serves twice: the interpreter runs it on lists, and a
compiler, where one is installed, on arrays (`compiled.py`). Both make the same merges.
"""

import heapq
from typing import Any, NamedTuple

from nanotx.tokenizers.bpe.merging import BYTES

WALL = -1  # stands between two pieces, and where an id has been merged away
Row = Any  # of whole numbers: a list, or an array


class Line(NamedTuple):
    """All the pieces in a row, each once, with a wall before, between and behind them; a number for each place."""

    ids: Row
    weights: Row  # how often the piece occurs in the texts
    before: Row  # the place on the left that is not merged away
    after: Row  # and on the right
    pairs: Row  # which pair begins here


class Pairs(NamedTuple):
    """Every pair that was ever met, by its number; and its places, each with the one that was found before it."""

    lefts: list[int]
    rights: list[int]
    counts: list[int]  # of its places, weighted
    newest: list[int]  # its last entry among the two lists that follow, or -1
    places: list[int]
    older: list[int]


def merge_all(line: Line, first: Row, with_left: Row, with_right: Row, limits: tuple[int, int, int]) -> Any:
    """Merge the most frequent pair again and again; gives the merges in order.

    Args:
        line: the pieces; changed.
        first: a zero for each pair of bytes.
        with_left: a zero for each id there can ever be.
        with_right: likewise.
        limits: how many merges are wanted, the least count of a pair, and the most bytes of a token.
    """
    wanted, least, longest = limits
    pairs = Pairs([0], [0], [0], [-1], [0], [-1])  # number 0 stands for none
    count_bytes(line, pairs, first)
    heap = [(-pairs.counts[one], pairs.lefts[one], pairs.rights[one], one) for one in range(1, len(pairs.lefts))]
    heapq.heapify(heap)
    merges, sizes = [(0, 0)], [1] * BYTES
    while len(heap) > 0 and len(merges) <= wanted:
        promised, left, right, pair = heapq.heappop(heap)
        if -promised < least:
            break
        count = pairs.counts[pair]
        if count < -promised:  # it has become rarer since it was pushed
            if count > 0:
                heapq.heappush(heap, (-count, left, right, pair))
            continue
        if sizes[left] + sizes[right] > longest:
            continue
        born = len(pairs.lefts)
        merge(line, pairs, pair, len(sizes), with_left, with_right)
        merges.append((left, right))
        sizes.append(sizes[left] + sizes[right])
        for one in range(born, len(pairs.lefts)):
            with_left[pairs.lefts[one]] = with_right[pairs.rights[one]] = 0
            if pairs.counts[one] > 0:
                heapq.heappush(heap, (-pairs.counts[one], pairs.lefts[one], pairs.rights[one], one))
    return merges[1:]


def count_bytes(line: Line, pairs: Pairs, first: Row) -> None:
    """Count the pairs that there are before any merge."""
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
    """Put the id `new` wherever the pair stands, from left to right, and count the pairs that this makes and breaks."""
    ids, weights, before, after, numbers = line.ids, line.weights, line.before, line.after, line.pairs
    left, right, counts = pairs.lefts[pair], pairs.rights[pair], pairs.counts
    newest, places, older = pairs.newest, pairs.places, pairs.older
    for at in places_of(pairs, pair):
        other = after[at]
        if ids[at] != left or ids[other] != right:
            continue  # one of the two was merged away since
        previous, following, weight = before[at], after[other], weights[at]
        one, two = ids[previous], ids[following]
        ids[at], ids[other] = new, WALL
        after[at], before[following] = following, at
        if one != WALL:
            counts[numbers[previous]] -= weight
            made = with_left[one]
            if made == 0:
                made = with_left[one] = new_pair(pairs, one, new)
            numbers[previous] = made
            counts[made] += weight
            older.append(newest[made])
            newest[made] = len(places)
            places.append(previous)
        if two != WALL:
            counts[numbers[other]] -= weight
            made = with_right[two]
            if made == 0:
                made = with_right[two] = new_pair(pairs, new, two)
            numbers[at] = made
            counts[made] += weight
            older.append(newest[made])
            newest[made] = len(places)
            places.append(at)
    counts[pair] = 0


def new_pair(pairs: Pairs, left: int, right: int) -> int:
    """A number for a pair."""
    pairs.lefts.append(left)
    pairs.rights.append(right)
    pairs.counts.append(0)
    pairs.newest.append(-1)
    return len(pairs.lefts) - 1


def places_of(pairs: Pairs, pair: int) -> list[int]:
    """Where the pair stands, or once stood, from left to right."""
    places, older = pairs.places, pairs.older
    found, entry, ordered = [0], pairs.newest[pair], True
    while entry >= 0:
        place = places[entry]
        ordered = ordered and (place < found[-1] or len(found) == 1)
        found.append(place)
        entry = older[entry]
    found.reverse()
    found.pop()
    if not ordered:
        found.sort()
    return found


HELPERS = (count_bytes, merge, new_pair, places_of)
"""What the loop calls."""
