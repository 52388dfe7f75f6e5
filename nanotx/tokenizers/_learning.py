"""Byte-pair learning: again and again, the most frequent pair of neighbours becomes a token of its own.

Ties go to the smallest pair of ids, so that one text gives one tokenizer. A pair that would grow longer than
LONGEST bytes is passed over. No two merges make the same bytes: where a token stands, nothing was merged
across its ends, so what happened inside is what happens to these bytes alone, and that is one way only.

Source: Sennrich et al. 2016, algorithm 1, https://arxiv.org/abs/1508.07909; over bytes, and with counts kept
up to date where the paper counts anew.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import pairwise

from nanotx.tokenizers import utf8
from nanotx.tokenizers._merging import LONGEST, Pair
from nanotx.tokenizers._patterns import Splitter

WALL = -1  # stands between two pieces, and where an id has been merged away


class Line:
    """All the pieces in a row, each once; `counts` says how often each pair occurs in the texts."""

    def __init__(self, pieces: Mapping[bytes, int]) -> None:
        self.ids, self.weights = [WALL], [0]
        for piece, count in pieces.items():
            self.ids += [*piece, WALL]
            self.weights += [count] * (len(piece) + 1)
        self.before = list(range(-1, len(self.ids) - 1))
        self.after = list(range(1, len(self.ids) + 1))
        self.counts: defaultdict[Pair, int] = defaultdict(int)
        self.places: defaultdict[Pair, list[int]] = defaultdict(list)
        for at, pair in enumerate(pairwise(self.ids)):
            self._count(pair, at)

    def merge(self, pair: Pair, new: int) -> set[Pair]:
        """Put the id `new` wherever the pair stands, from left to right; gives the pairs that this made."""
        made: set[Pair] = set()
        ids, left, right = self.ids, *pair
        for at in sorted(self.places.pop(pair)):
            other = self.after[at]
            if ids[at] != left or ids[other] != right:
                continue  # one of the two was merged away since
            previous, following = self.before[at], self.after[other]
            self.counts[ids[previous], left] -= self.weights[at]
            self.counts[right, ids[following]] -= self.weights[at]
            ids[at], ids[other] = new, WALL
            self.after[at], self.before[following] = following, at
            made.add(self._count((ids[previous], new), previous))
            made.add(self._count((new, ids[following]), at))
        del self.counts[pair]
        return made

    def _count(self, pair: Pair, at: int) -> Pair:
        if WALL not in pair:
            self.counts[pair] += self.weights[at]
            self.places[pair].append(at)
        return pair


def count_pieces(texts: Iterable[str], splitter: Splitter) -> dict[bytes, int]:
    """How often each piece occurs in the texts."""
    pieces = Counter[str]()
    for text in texts:
        utf8("bpe", text)
        pieces.update(splitter.pieces(text))
    return {piece.encode("utf-8"): count for piece, count in pieces.items()}


def learn_merges(pieces: Mapping[bytes, int], wanted: int, least: int = 1) -> list[Pair]:
    """The first `wanted` merges, or as many as the pieces allow.

    Args:
        pieces: how often each piece occurs in the texts.
        wanted: how many merges to make.
        least: how often a pair must occur to be merged.
    """
    line, merges = Line(pieces), list[Pair]()
    tokens = [bytes([value]) for value in range(256)]
    heap = [(-count, pair) for pair, count in line.counts.items()]
    heapq.heapify(heap)
    while heap and len(merges) < wanted:
        promised, pair = heapq.heappop(heap)
        count = line.counts.get(pair, 0)
        if -promised < least:
            break
        if count < -promised:  # it has become rarer since it was pushed
            if count > 0:
                heapq.heappush(heap, (-count, pair))
            continue
        token = tokens[pair[0]] + tokens[pair[1]]
        if len(token) > LONGEST:
            continue
        made = line.merge(pair, len(tokens))
        merges.append(pair)
        tokens.append(token)
        for one in made:
            if line.counts.get(one, 0) > 0:
                heapq.heappush(heap, (-line.counts[one], one))
    return merges
