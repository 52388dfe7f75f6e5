"""Encode by merging: a piece of text becomes ids by the learned merges, the earliest first.

A short piece is scanned again for each merge; a long one is a linked list with a heap of its pairs, which
takes n log n where scanning takes n squared. Both give the same ids.

Long texts may be merged by the loops of `compiled.py` instead, where numba is installed; they give the same ids too.
"""

import heapq
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np

from nanotx.errors import TokenizerError
from nanotx.tokenizers.bpe.splitting import Splitter

Pair = tuple[int, int]
LONGEST_TOKEN = 256  # bytes; published vocabularies end at 128, and without a limit 40 merges fill the memory
SHORT = 64  # bytes of a piece that is faster to scan than to keep in a heap
BYTES = 256
GONE = -1


def tokens_of(merges: Sequence[Pair]) -> list[bytes]:
    """Return the bytes of each id: the 256 single bytes, then the merges in order.

    Raises:
        TokenizerError: a merge uses a later id, or its token is a duplicate or too long.
    """
    tokens = [bytes([value]) for value in range(BYTES)]
    known = set(tokens)
    for size, (left, right) in enumerate(merges, BYTES):
        where = size - BYTES
        if not (0 <= left < size and 0 <= right < size):
            raise TokenizerError(f"bpe: merge {where} is of {left} and {right}; expected ids from 0 to {size - 1}.")
        token = tokens[left] + tokens[right]
        if token in known:
            raise TokenizerError(f"bpe: merge {where} makes {token!r}, which is already a token.")
        if len(token) > LONGEST_TOKEN:
            raise TokenizerError(f"bpe: merge {where} makes {len(token)} bytes; expected at most {LONGEST_TOKEN}.")
        tokens.append(token)
        known.add(token)
    return tokens


def merge_piece(piece: bytes, ranks: Mapping[Pair, int]) -> list[int]:
    """Return the ids of a piece; `ranks` gives the id that each learned pair becomes."""
    return (merge_short if len(piece) <= SHORT else merge_long)(piece, ranks)


def merge_short(piece: bytes, ranks: Mapping[Pair, int]) -> list[int]:
    """As `merge_piece`, by scanning: merge the earliest pair, leftmost first, and repeat."""
    ids, none = list(piece), BYTES + len(ranks)
    became = [ranks.get(pair, none) for pair in pairwise(ids)]  # what each pair of neighbours would be
    while became:
        new = min(became)
        if new == none:
            break
        at = became.index(new)
        ids[at : at + 2] = [new]
        del became[at]
        if at < len(became):
            became[at] = ranks.get((new, ids[at + 1]), none)
        if at:
            became[at - 1] = ranks.get((ids[at - 1], new), none)
    return ids


def merge_long(piece: bytes, ranks: Mapping[Pair, int]) -> list[int]:
    """As `merge_piece`, by a heap of rank and position in one number; entries whose pair is gone are skipped."""
    ids, size = [*piece, GONE], len(piece)  # the last one is a wall
    before, after = list(range(-1, size)), list(range(1, size + 2))
    heap = [ranks[pair] * size + at for at, pair in enumerate(pairwise(piece)) if pair in ranks]
    heapq.heapify(heap)
    while heap:
        rank, at = divmod(heapq.heappop(heap), size)
        other = after[at]
        if ids[at] == GONE or ranks.get((ids[at], ids[other])) != rank:
            continue
        ids[at], ids[other] = rank, GONE
        following, previous = after[other], before[at]
        after[at], before[following] = following, at
        if (right := ranks.get((rank, ids[following]))) is not None:
            heapq.heappush(heap, right * size + at)
        if previous >= 0 and (left := ranks.get((ids[previous], rank))) is not None:
            heapq.heappush(heap, left * size + previous)
    return [token for token in ids if token != GONE]


PIECES = 1 << 18  # entries of the young generation of the cache of pieces
PARTS = 1 << 17


class PieceCache(dict[str, bytes]):
    """A cache of the ids of texts, as the bytes of an int32 array; `encode` computes missing ones.

    It has two generations: a full young one becomes the old one, and entries of the old one that are used again move to
    the young one. So it is bounded, and frequent texts stay.
    """

    def __init__(self, encode: Callable[[str], bytes], most: int) -> None:
        super().__init__()
        self.encode, self.most = encode, most
        self.old = dict[str, bytes]()
        self.misses = 0  # number of calls of `encode`
        self.seen = 0  # bytes of the texts

    def __missing__(self, text: str) -> bytes:
        ids = self.old.get(text)
        if ids is None:
            self.misses += 1
            ids = self.encode(text)
            if len(text) > SHORT:
                return ids
        if len(self) >= self.most:
            self.old = dict(self)
            self.clear()
        self[text] = ids
        return ids


def of_pieces(merges: Sequence[Pair], numbers: Sequence[int] = ()) -> PieceCache:
    """Return a cache of pieces; the bytes of a new one are merged."""
    ranks = dict[Pair, int]()  # made when there is something to merge
    ids = np.array(numbers, np.int32) if numbers else np.arange(BYTES + len(merges), dtype=np.int32)

    def encode(piece: str) -> bytes:
        data = piece.encode("utf-8")
        if len(data) > 1 and not ranks:
            ranks.update(zip(merges, range(BYTES, BYTES + len(merges)), strict=True))
        return ids[merge_piece(data, ranks)].tobytes()

    return PieceCache(encode, PIECES)


def of_parts(splitter: Splitter, pieces: PieceCache) -> PieceCache:
    """Return a cache of parts; a new one is split into its pieces."""
    cut, find = splitter.pieces, pieces.__getitem__
    return PieceCache(lambda part: b"".join(map(find, cut(part))), PARTS)
