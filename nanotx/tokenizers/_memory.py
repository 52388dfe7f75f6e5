"""Memories of what was encoded before: for each piece its ids, and for each part of a text those of its pieces."""

from collections.abc import Callable, Sequence

import numpy as np

from nanotx.tokenizers._merging import BYTES, Pair, merge_piece
from nanotx.tokenizers._splitting import Splitter

SHORT = 64  # characters of what is remembered
PIECES = 1 << 18  # entries of a young memory of them
PARTS = 1 << 17


class Memory(dict[str, bytes]):
    """The ids, as the bytes of an int32 array, of the texts met before; of any other they are found by `encode`.

    A memory that is full grows old, and a young one begins; of the old one is kept what is met again, and when
    the young one is full, too, the rest is forgotten. So it is bounded, and what is frequent stays.
    """

    def __init__(self, encode: Callable[[str], bytes], most: int) -> None:
        super().__init__()
        self.encode, self.most = encode, most
        self.old = dict[str, bytes]()
        self.misses = 0  # how often `encode` was asked
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


def of_pieces(merges: Sequence[Pair], numbers: Sequence[int] = ()) -> Memory:
    """A memory of pieces, whose bytes are merged where they are new."""
    ranks = {pair: BYTES + index for index, pair in enumerate(merges)}
    ids = np.array(numbers, np.int32) if numbers else np.arange(BYTES + len(merges), dtype=np.int32)
    return Memory(lambda piece: ids[merge_piece(piece.encode("utf-8"), ranks)].tobytes(), PIECES)


def of_parts(splitter: Splitter, pieces: Memory) -> Memory:
    """A memory of parts; one that is met for the first time is cut into its pieces."""
    cut, find = splitter.pieces, pieces.__getitem__
    return Memory(lambda part: b"".join(map(find, cut(part))), PARTS)
