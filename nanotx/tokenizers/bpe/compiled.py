"""BPE compiled by numba, where it is installed (the extra `fast`) and a text is long enough to be worth it.

The loops over a table of what was encoded before are written as those of `pairs.py` are: a compiler makes them quick,
and the interpreter runs them too, which is how they are tested.

To load a compiler takes longer than to learn from a megabyte; so small work is left to the interpreter, unless
the loops were compiled before in this process. Both ways give the same.

`CompiledEncoder` does what `PieceCache` in `encoding.py` does: the parts of a text that were met before are looked up,
and a new one is cut into its pieces by the pattern. But no part becomes an object of the interpreter before it is new,
and the pieces of all that are new are merged together.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nanotx.tokenizers.base import Ids
from nanotx.tokenizers.bpe import pairs, splitting
from nanotx.tokenizers.bpe.encoding import Pair, merge_piece
from nanotx.tokenizers.bpe.splitting import Splitter

Row = Any  # of whole numbers
Number = Any  # an integer, of the interpreter or of a row
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
    """Return whether a part ends before the byte `at` of a text in UTF-8; see `splitting.py`.

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
    """Return the first seam from `least` on, or the end."""
    for at in range(max(least, 1), len(data)):
        if seam(data, at, kinds):
            return at
    return len(data)


def find(
    data: Row, start: Number, end: Number, kinds: Row, table: Table, places: Row, fresh: Row
) -> tuple[Number, Number]:
    """Find the record of each part of a stretch of text; what has none yet gets one, and has no ids.

    Args:
        data: a text in UTF-8.
        start: where the stretch begins in it.
        end: where it ends, at a seam.
        kinds: of bytes.
        table: with room for as many more records as there are bytes.
        places: a place for the record of each part.
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
        places[parts] = here
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
    """Return what a pair of tokens becomes; 0 where it is not merged."""
    slot = place_of(left, right, len(ranks.made))
    while ranks.made[slot] > 0:
        if ranks.lefts[slot] == left and ranks.rights[slot] == right:
            return ranks.made[slot]
        slot = (slot + 1) & (len(ranks.made) - 1)
    return 0


def place_of(left: Number, right: Number, slots: int) -> Number:
    """Return where a pair is looked for."""
    spread = (int(left) * SPREAD & WORD) ^ int(right)
    spread = spread * SPREAD & WORD
    return (spread ^ spread >> 15) & (slots - 1)


def gather(table: Table, places: Row, out: Row) -> Number:
    """Copy the ids of the records one after another; gives how many there are."""
    records, ids, size = table.records, table.ids, 0
    for here in places:
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


PLACES = 1 << 19  # in a line of pieces: to merge so many is worth a compiler
CHARACTERS = 1 << 24  # to count the parts of so many is, too
TEXT = 1 << 24  # bytes that one tokenizer has encoded: more of them are, too


class Loops(NamedTuple):
    """What was compiled; it wants arrays."""

    merge_all: Callable[..., Any]
    count: Callable[..., Any]
    block_end: Callable[..., Any]
    find: Callable[..., Any]
    move: Callable[..., Any]
    fill: Callable[..., Any]
    gather: Callable[..., Any]


def loops(worth_it: bool) -> Loops | None:
    """Return the compiled loops, if that is worth it or was done before; None where there is no numba."""
    return _compiled() if worth_it or _compiled.cache_info().currsize else None


@cache
def _compiled() -> Loops | None:
    try:
        from numba import njit
        from numba.extending import register_jitable
    except ImportError:
        return None
    for helper in (*pairs.HELPERS, *HELPERS):
        register_jitable(helper)
    loops = (pairs.merge_all, splitting.count, block_end, find, move, fill, gather)
    return Loops(*(njit(cache=True)(loop) for loop in loops))


BLOCK = 1 << 16  # bytes of a text, and what is needed to end at a seam, that are encoded at once
RECORDS = 1 << 20  # a table that is full forgets everything
HELD = 1 << 25  # bytes of it, and ids
LONGEST = 256  # bytes of a piece that is merged by scanning; a longer one is left to `merge_piece`


class CompiledEncoder:
    """A tokenizer's table, and the loops that fill it."""

    def __init__(self, loops: Any, splitter: Splitter, merges: Sequence[Pair], ids: Sequence[int] = ()) -> None:
        self.loops, self.splitter = loops, splitter
        self.by_pair = {pair: BYTES + index for index, pair in enumerate(merges)}
        self.ranks = ranks_of(merges, np.array(ids or range(BYTES + len(merges)), np.int32))
        self.table = Table(empty(0), np.zeros(HELD, np.uint8), np.zeros(HELD, np.int32), np.zeros(3, np.int64))
        self.places, self.fresh = np.zeros(BLOCK + 1, np.int32), np.zeros(2 * BLOCK + 2, np.int32)
        self.parts = self.misses = 0  # that were looked up, and that were new
        self.row, self.became = (np.zeros(LONGEST, np.int32) for _ in range(2))

    def encode(self, text: str, data: bytes) -> Ids:
        """Return the ids of a text, which is given in UTF-8, too."""
        bytes_, start, rows = np.frombuffer(data, np.uint8), 0, list[Ids]()
        while start < len(data):
            end = self.loops.block_end(bytes_, start + BLOCK, KINDS)
            rows.append(self._block(bytes_, start, end, text if len(text) == len(data) else None, data))
            start = end
        return np.concatenate([np.empty(0, np.int32), *rows])

    def _block(self, bytes_: NDArray[np.uint8], start: int, end: int, ascii_text: str | None, data: bytes) -> Ids:
        size = end - start
        if size > HELD // 2:  # not one seam in so many bytes
            return self._slowly(data[start:end].decode("utf-8"))
        self._make_room(size)
        parts, new = self.loops.find(bytes_, start, end, KINDS, self.table, self.places, self.fresh)
        self.parts, self.misses = self.parts + parts, self.misses + new
        if new:
            begins = self.fresh[1 : 2 * new : 2]
            ends = begins + self.table.records[self.fresh[: 2 * new : 2] + SIZE]
            spans = zip(begins.tolist(), ends.tolist(), strict=True)
            if ascii_text is None:
                self._learn([data[low:high].decode("utf-8") for low, high in spans], all_ascii=False)
            else:
                self._learn([ascii_text[low:high] for low, high in spans], all_ascii=True)
        out = np.empty(size, np.int32)
        return out[: self.loops.gather(self.table, self.places[:parts], out)].copy()

    def _make_room(self, size: int) -> None:
        """Make room for the parts and ids that so many bytes may have at most."""
        table, used = self.table, self.table.used
        if used[0] > RECORDS - BLOCK or max(used[1], used[2]) > HELD - size:
            self.table = table._replace(records=empty(0))
            used[:] = 0
        elif 2 * WIDTH * (used[0] + BLOCK + 1) > len(table.records):
            self.table = table._replace(records=empty(int(used[0])))
            self.loops.move(table.records, self.table.records)

    def _learn(self, texts: list[str], all_ascii: bool) -> None:
        """Give ids to the new records, whose texts these are."""
        counts, sizes, long = list[int](), list[int](), dict[int, str]()
        cut = self.splitter.pieces
        for index, text in enumerate(texts):
            lengths = list(map(len, cut(text) if all_ascii else map(str.encode, cut(text))))
            if len(text) > LONGEST // 4 and max(lengths) > LONGEST:
                long[index], lengths = text, []
            counts.append(len(lengths))
            sizes += lengths
        rows = np.array(counts, np.int32), np.array(sizes, np.int32)
        self.loops.fill(self.table, self.fresh, *rows, self.ranks, self.row, self.became)
        for index, text in long.items():
            ids, begin, here = self._slowly(text), int(self.table.used[2]), self.fresh[2 * index]
            self.table.ids[begin : begin + len(ids)] = ids
            self.table.used[2] += len(ids)
            self.table.records[here + FIRST] = ids[0] if len(ids) == 1 else begin
            self.table.records[here + COUNT] = len(ids)

    def _slowly(self, text: str) -> Ids:
        """Return the ids of a text with a long piece, whose merging takes a heap."""
        tokens = [token for piece in self.splitter.pieces(text) for token in merge_piece(piece.encode(), self.by_pair)]
        ids: Ids = self.ranks.ids[tokens]
        return ids


def empty(records: int) -> NDArray[np.int32]:
    """Places for twice as many records and those of another block, or up to four times as many."""
    return np.zeros(WIDTH << (2 * (records + BLOCK + 1)).bit_length(), np.int32)


def ranks_of(merges: Sequence[Pair], ids: NDArray[np.int32]) -> Ranks:
    """Return the merges in a table of four times as many places or more, where they are found by the pair."""
    size = 1 << (4 * len(merges) + 4).bit_length()
    lefts, rights, made = (np.zeros(size, np.int32) for _ in range(3))
    for index, (left, right) in enumerate(merges):
        slot = place_of(left, right, size)
        while made[slot]:
            slot = (slot + 1) & (size - 1)
        lefts[slot], rights[slot], made[slot] = left, right, BYTES + index
    return Ranks(lefts, rights, made, ids)
