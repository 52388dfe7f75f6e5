"""A table of what was encoded before, in plain rows of numbers: each part of a text, and its ids.

These are the loops of `_engine.py`, written as those of `_pairs.py` are: a compiler makes them quick, and the
interpreter runs them too, which is how they are tested.
"""

from typing import Any, NamedTuple

import numpy as np

Row = Any  # of whole numbers
Number = Any  # a whole one, of the interpreter or of a row
BYTES = 256
SPREAD = 0x9E3779B1  # an odd number near 2^32 divided by the golden ratio: Knuth, The Art, volume 3, section 6.4
WORD = 0xFFFFFFFF
WIDTH, HASH, START, SIZE, FIRST, COUNT = 8, 0, 1, 2, 3, 4
"""A record: its part's hash, where its text begins and how many bytes it has, where its ids begin, and how many there
are; where there is one, that id itself. SIZE is 0 where no record is. A power of two, so that it lies in one line of
the processor's cache: to fetch lines is what a look-up takes."""
LETTER, BLANK = 1, 2
KINDS = np.zeros(BYTES, np.uint8)
"""For each byte whether it is an ASCII letter, or an ASCII blank."""
KINDS[[*range(ord("A"), ord("Z") + 1), *range(ord("a"), ord("z") + 1)]] = LETTER
KINDS[[*range(ord("\t"), ord("\r") + 1), ord(" ")]] = BLANK


class Table(NamedTuple):
    """Records of WIDTH numbers, each at the place where its part is looked for, and what they point to."""

    records: Row
    text: Row  # of the parts, in UTF-8
    ids: Row  # of those that have not just one
    used: Row  # three numbers: records, bytes of text, ids


class Ranks(NamedTuple):
    """What each pair of tokens becomes, at the place where the pair is looked for; and the id of each token."""

    lefts: Row
    rights: Row
    made: Row  # 0: no pair is here
    ids: Row


def seam(data: Row, at: Number, kinds: Row) -> Number:
    """Whether a part ends before the byte `at` of a text in UTF-8; see `_splitting.py`.

    There are two kinds of seams: an ASCII letter before an ASCII byte that is none, and a space that is the first
    blank after something else.
    """
    here, last = data[at], data[at - 1]
    if kinds[last] == LETTER and here < 128:
        return kinds[here] != LETTER
    if here != 32 or kinds[last] == BLANK:
        return False
    if last < 128 or at < 2:
        return True
    # No blank beyond ASCII: U+0085, U+00A0, U+1680, U+2000 to U+200A, U+2028, U+2029, U+202F, U+205F, U+3000.
    lead = data[at - 2]
    if lead == 0xC2:
        return last != 0x85 and last != 0xA0
    first = data[at - 3] if at > 2 else 0
    if first == 0xE2 and lead == 0x80:
        return not (last <= 0x8A or last == 0xA8 or last == 0xA9 or last == 0xAF)
    return not (
        (first == 0xE2 and lead == 0x81 and last == 0x9F)
        or (first == 0xE1 and lead == 0x9A and last == 0x80)
        or (first == 0xE3 and lead == 0x80 and last == 0x80)
    )


def block_end(data: Row, least: Number, kinds: Row) -> Number:
    """The first seam from `least` on, or the end."""
    for at in range(max(least, 1), len(data)):
        if seam(data, at, kinds):
            return at
    return len(data)


def find(
    data: Row, start: Number, end: Number, kinds: Row, table: Table, found: Row, fresh: Row
) -> tuple[Number, Number]:
    """Find the record of each part of a stretch of text; what has none yet gets one, and has no ids.

    Args:
        data: a text in UTF-8.
        start: where the stretch begins in it.
        end: where it ends, at a seam.
        kinds: of bytes.
        table: with room for as many more records as there are bytes.
        found: a place for the record of each part.
        fresh: two places for each part that is new: its record, and where it begins.

    Returns:
        How many parts there are, and how many new ones.
    """
    records, text, used = table.records, table.text, table.used
    parts, new, spread, last = 0, 0, 0, len(records) - 1
    for at in range(start, end):
        spread = (spread ^ int(data[at])) * SPREAD & WORD
        if at + 1 < end:
            follows = data[at + 1]
            ended = kinds[data[at]] == LETTER and follows < 128 and kinds[follows] != LETTER
            if not ended and (follows != 32 or not seam(data, at + 1, kinds)):  # asked here first, to be quick
                continue
        size, mark = at + 1 - start, (spread ^ spread >> 15) & 0x7FFFFFFF
        here = mark * WIDTH & last
        while records[here + SIZE] > 0:
            if records[here + HASH] == mark and records[here + SIZE] == size:
                other, step = records[here + START], 0
                while step < size and text[other + step] == data[start + step]:
                    step += 1
                if step == size:
                    break
            here = (here + WIDTH) & last
        if records[here + SIZE] == 0:
            for step in range(size):
                text[used[1] + step] = data[start + step]
            records[here + HASH], records[here + START], records[here + SIZE] = mark, used[1], size
            used[0] += 1
            used[1] += size
            fresh[2 * new], fresh[2 * new + 1] = here, start
            new += 1
        found[parts] = here
        parts += 1
        start, spread = at + 1, 0
    return parts, new


def move(records: Row, roomier: Row) -> None:
    """Put all records where they are looked for among more places."""
    last = len(roomier) - 1
    for old in range(0, len(records), WIDTH):
        if records[old + SIZE] > 0:
            here = int(records[old + HASH]) * WIDTH & last
            while roomier[here + SIZE] > 0:
                here = (here + WIDTH) & last
            for step in range(WIDTH):
                roomier[here + step] = records[old + step]


def fill(table: Table, fresh: Row, counts: Row, sizes: Row, ranks: Ranks, row: Row, became: Row) -> None:
    """Give ids to new records.

    Args:
        table: that they are in.
        fresh: the records.
        counts: how many pieces the part of each has.
        sizes: how many bytes each piece has.
        ranks: what each pair of tokens becomes.
        row: a place for the tokens of the longest piece.
        became: likewise.
    """
    records, ids, used, piece = table.records, table.ids, table.used, 0
    for index in range(len(counts)):
        here = fresh[2 * index]
        at, first = records[here + START], used[2]
        for _ in range(counts[index]):
            tokens = merge(table.text, at, sizes[piece], ranks, row, became)
            for step in range(tokens):
                ids[used[2] + step] = ranks.ids[row[step]]
            used[2] += tokens
            at += sizes[piece]
            piece += 1
        records[here + COUNT] = used[2] - first
        records[here + FIRST] = first
        if used[2] - first == 1:
            records[here + FIRST] = ids[first]
            used[2] = first


def merge(text: Row, at: Number, size: Number, ranks: Ranks, row: Row, became: Row) -> Number:
    """Merge the bytes of a piece, the earliest pair first, from the left; gives how many tokens remain."""
    for step in range(size):
        row[step] = text[at + step]
    for step in range(size - 1):
        became[step] = made_of(row[step], row[step + 1], ranks)
    while size > 1:
        best = 0
        for step in range(1, size - 1):
            if became[step] > 0 and (became[best] == 0 or became[step] < became[best]):
                best = step
        if became[best] == 0:
            break
        row[best] = became[best]
        size -= 1
        for step in range(best + 1, size):
            row[step] = row[step + 1]
            became[step - 1] = became[step]
        if best > 0:
            became[best - 1] = made_of(row[best - 1], row[best], ranks)
        if best < size - 1:
            became[best] = made_of(row[best], row[best + 1], ranks)
    return size


def made_of(left: Number, right: Number, ranks: Ranks) -> Number:
    """What a pair of tokens becomes; 0 where it is not merged."""
    slot = place_of(left, right, len(ranks.made))
    while ranks.made[slot] > 0:
        if ranks.lefts[slot] == left and ranks.rights[slot] == right:
            return ranks.made[slot]
        slot = (slot + 1) & (len(ranks.made) - 1)
    return 0


def place_of(left: Number, right: Number, slots: int) -> Number:
    """Where a pair is looked for."""
    spread = (int(left) * SPREAD & WORD) ^ int(right)
    spread = spread * SPREAD & WORD
    return (spread ^ spread >> 15) & (slots - 1)


def gather(table: Table, found: Row, out: Row) -> Number:
    """Copy the ids of the records one after another; gives how many there are."""
    records, ids, size = table.records, table.ids, 0
    for here in found:
        first, count = records[here + FIRST], records[here + COUNT]
        if count == 1:
            out[size] = first
        else:
            for step in range(count):
                out[size + step] = ids[first + step]
        size += count
    return size


HELPERS = (seam, merge, made_of, place_of)
"""What the loops call."""
