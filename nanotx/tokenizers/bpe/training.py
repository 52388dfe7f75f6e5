"""Train BPE: repeatedly, the most frequent pair of adjacent tokens becomes a token of its own.

Ties go to the smallest pair of ids, so that one text gives one tokenizer. A pair that would grow longer than
LONGEST_TOKEN bytes is skipped. No two merges make the same bytes: nothing was merged
across the ends of a token, so its bytes were merged as they are alone, and that is possible in one way only.

Source: Sennrich et al. 2016, algorithm 1, https://arxiv.org/abs/1508.07909; over bytes, and with counts kept
up to date where the paper counts again.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanotx.tokenizers.base import utf8
from nanotx.tokenizers.bpe.compiled import CHARACTERS, PLACES, loops
from nanotx.tokenizers.bpe.encoding import BYTES, LONGEST_TOKEN, Pair
from nanotx.tokenizers.bpe.pairs import WALL, Line, merge_all
from nanotx.tokenizers.bpe.splitting import Splitter, count_parts

MANY = 1 << 20  # parts counted before they are split into pieces; bounds the memory


def count_pieces(texts: Iterable[str], splitter: Splitter) -> dict[bytes, int]:
    """Return how often each piece occurs in the texts; each text is read once."""
    parts, pieces, seen = Counter[str](), dict[str, int](), 0
    for text in texts:
        utf8("bpe", text)
        for block in splitter.blocks(text):
            seen += len(block)
            fast = loops(seen >= CHARACTERS) if splitter.quick(block) else None
            parts.update(splitter.parts(block) if fast is None else count_parts(fast.count, block))
            if len(parts) > MANY:
                _cut(parts, pieces, splitter)
    _cut(parts, pieces, splitter)
    return {piece.encode("utf-8"): count for piece, count in pieces.items()}


def _cut(parts: Counter[str], pieces: dict[str, int], splitter: Splitter) -> None:
    """Move the parts to the pieces."""
    for part, count in parts.items():
        for piece in splitter.pieces_of(part):
            pieces[piece] = pieces.get(piece, 0) + count
    parts.clear()


def learn_merges(pieces: Mapping[bytes, int], wanted: int, least: int = 1) -> list[Pair]:
    """Return the first `wanted` merges, or as many as the pieces allow.

    Args:
        pieces: how often each piece occurs in the texts.
        wanted: how many merges to make.
        least: how often a pair must occur to be merged.
    """
    ids, weights = in_a_row(pieces)
    wanted = min(wanted, len(ids))  # each merge takes a place at least
    places = np.arange(len(ids), dtype=np.int32)
    zeros = (np.zeros(size, np.int32) for size in (len(ids), BYTES**2, BYTES + wanted, BYTES + wanted))
    rows: list[Any] = [ids, weights, places - 1, places + 1, *zeros]
    fast = loops(len(ids) >= PLACES)
    if fast is None:  # the interpreter is quicker on lists
        rows = [row.tolist() for row in rows]
    first, with_left, with_right = rows[5:]
    line, limits = Line(*rows[:5]), (wanted, least, LONGEST_TOKEN)
    merges = (merge_all if fast is None else fast.merge_all)(line, first, with_left, with_right, limits)
    return [(int(left), int(right)) for left, right in merges]


def in_a_row(pieces: Mapping[bytes, int]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return the bytes of all pieces with a wall around each, and the count of its piece for each byte."""
    sizes = np.fromiter(map(len, pieces), np.int64, len(pieces))
    counts = np.fromiter(pieces.values(), np.int64, len(pieces))
    inside = np.ones(int(sizes.sum()) + len(pieces) + 1, bool)
    inside[0] = inside[np.cumsum(sizes + 1)] = False
    ids = np.full(len(inside), WALL, np.int32)
    ids[inside] = np.frombuffer(b"".join(pieces), np.uint8)
    return ids, np.concatenate([[0], np.repeat(counts, sizes + 1)])
