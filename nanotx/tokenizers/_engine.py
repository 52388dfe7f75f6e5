"""Encoding by compiled loops, where numba is installed (the extra `fast`) and a text is long enough to be worth it.

What it does is what `_memory.py` does: the parts of a text that were met before are looked up, and a new one is cut
into its pieces by the pattern. But no part becomes an object of the interpreter before it is new, and the pieces of
all that are new are merged together.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanotx.tokenizers import Ids
from nanotx.tokenizers._merging import BYTES, Pair, merge_piece
from nanotx.tokenizers._splitting import Splitter
from nanotx.tokenizers._table import COUNT, FIRST, KINDS, SIZE, WIDTH, Ranks, Table, place_of

BLOCK = 1 << 16  # bytes of a text, and what is needed to end at a seam, that are encoded at once
RECORDS = 1 << 20  # a table that is full forgets everything
TEXT = 1 << 25  # bytes of it, and ids
LONGEST = 256  # bytes of a piece that is merged by scanning; a longer one is left to `merge_piece`


class Engine:
    """A tokenizer's table, and the loops that fill it."""

    def __init__(self, loops: Any, splitter: Splitter, merges: Sequence[Pair], ids: Sequence[int] = ()) -> None:
        self.loops, self.splitter = loops, splitter
        self.by_pair = {pair: BYTES + index for index, pair in enumerate(merges)}
        self.ranks = ranks_of(merges, np.array(ids or range(BYTES + len(merges)), np.int32))
        self.table = Table(empty(0), np.zeros(TEXT, np.uint8), np.zeros(TEXT, np.int32), np.zeros(3, np.int64))
        self.found, self.fresh = np.zeros(BLOCK + 1, np.int32), np.zeros(2 * BLOCK + 2, np.int32)
        self.parts = self.misses = 0  # that were looked up, and that were new
        self.row, self.became = (np.zeros(LONGEST, np.int32) for _ in range(2))

    def encode(self, text: str, data: bytes) -> Ids:
        """The ids of a text, which is given in UTF-8, too."""
        bytes_, start, found = np.frombuffer(data, np.uint8), 0, list[Ids]()
        while start < len(data):
            end = self.loops.block_end(bytes_, start + BLOCK, KINDS)
            found.append(self._block(bytes_, start, end, text if len(text) == len(data) else None, data))
            start = end
        return np.concatenate([np.empty(0, np.int32), *found])

    def _block(self, bytes_: NDArray[np.uint8], start: int, end: int, ascii_text: str | None, data: bytes) -> Ids:
        size = end - start
        if size > TEXT // 2:  # not one seam in so many bytes
            return self._slowly(data[start:end].decode("utf-8"))
        self._make_room(size)
        parts, new = self.loops.find(bytes_, start, end, KINDS, self.table, self.found, self.fresh)
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
        return out[: self.loops.gather(self.table, self.found[:parts], out)].copy()

    def _make_room(self, size: int) -> None:
        """For as many parts and ids as so many bytes may have."""
        table, used = self.table, self.table.used
        if used[0] > RECORDS - BLOCK or max(used[1], used[2]) > TEXT - size:
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
            found = list(map(len, cut(text) if all_ascii else map(str.encode, cut(text))))
            if len(text) > LONGEST // 4 and max(found) > LONGEST:
                long[index], found = text, []
            counts.append(len(found))
            sizes += found
        rows = np.array(counts, np.int32), np.array(sizes, np.int32)
        self.loops.fill(self.table, self.fresh, *rows, self.ranks, self.row, self.became)
        for index, text in long.items():
            ids, begin, here = self._slowly(text), int(self.table.used[2]), self.fresh[2 * index]
            self.table.ids[begin : begin + len(ids)] = ids
            self.table.used[2] += len(ids)
            self.table.records[here + FIRST] = ids[0] if len(ids) == 1 else begin
            self.table.records[here + COUNT] = len(ids)

    def _slowly(self, text: str) -> Ids:
        """The ids of a text with a long piece, whose merging takes a heap."""
        tokens = [one for piece in self.splitter.pieces(text) for one in merge_piece(piece.encode(), self.by_pair)]
        found: Ids = self.ranks.ids[tokens]
        return found


def empty(records: int) -> NDArray[np.int32]:
    """Places for twice as many records and those of another block, or up to four times as many."""
    return np.zeros(WIDTH << (2 * (records + BLOCK + 1)).bit_length(), np.int32)


def ranks_of(merges: Sequence[Pair], ids: NDArray[np.int32]) -> Ranks:
    """The merges in a table of four times as many places or more, where they are found by the pair."""
    size = 1 << (4 * len(merges) + 4).bit_length()
    lefts, rights, made = (np.zeros(size, np.int32) for _ in range(3))
    for index, (left, right) in enumerate(merges):
        slot = place_of(left, right, size)
        while made[slot]:
            slot = (slot + 1) & (size - 1)
        lefts[slot], rights[slot], made[slot] = left, right, BYTES + index
    return Ranks(lefts, rights, made, ids)
