"""Memories of what was encoded before: for each piece its ids, and for each part of a text those of its pieces."""

from collections.abc import Sequence

import numpy as np

from nanotx.tokenizers._merging import BYTES, Pair, merge_piece, tokens_of
from nanotx.tokenizers._splitting import Splitter

SHORT = 64  # characters of what is remembered
MOST = 1 << 17  # entries; a full memory forgets everything


class Memory(dict[str, bytes]):
    """The ids, as the bytes of an int32 array, of the pieces met before.

    A piece that is a token as a whole is that token, as it is to tiktoken. To merge its bytes gives the same where
    the merges were learned: what happened inside the token, then, is what happens to its bytes alone.
    """

    def __init__(self, merges: Sequence[Pair], ids: Sequence[int] = ()) -> None:
        super().__init__()
        self.ranks = {pair: BYTES + index for index, pair in enumerate(merges)}
        self.whole = {token: index for index, token in enumerate(tokens_of(merges))}
        self.ids = np.array(ids, np.int32) if ids else np.arange(BYTES + len(merges), dtype=np.int32)
        self.misses = 0  # how often it was asked in vain

    def __missing__(self, piece: str) -> bytes:
        self.misses += 1
        data = piece.encode("utf-8")
        token = self.whole.get(data)
        ids = self.ids[merge_piece(data, self.ranks) if token is None else token].tobytes()
        remember(self, piece, ids)
        return ids


class Parts(dict[str, bytes]):
    """Likewise of the parts met before; a new one is cut into its pieces."""

    def __init__(self, splitter: Splitter, pieces: Memory) -> None:
        super().__init__()
        self.splitter, self.pieces = splitter, pieces
        self.misses = 0

    def __missing__(self, part: str) -> bytes:
        self.misses += 1
        ids = b"".join(map(self.pieces.__getitem__, self.splitter.pieces(part)))
        remember(self, part, ids)
        return ids


def remember(memory: dict[str, bytes], text: str, ids: bytes) -> None:
    """Put an entry into a memory that stays bounded, in entries and in what each of them holds."""
    if len(text) <= SHORT:
        if len(memory) >= MOST:
            memory.clear()
        memory[text] = ids
