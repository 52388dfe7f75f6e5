"""Train WordPiece: repeatedly, the adjacent pair that makes the texts likelier by the most becomes a token.

Two scores say by how much. `ratio` is count(ab) / (count(a) count(b)): how much likelier one occurrence of the pair
becomes. It is the score that is commonly described, and favours the rarest pairs, so set a min_frequency. `gain` is
count(ab) log(N count(ab) / (count(a) count(b))), N being the texts' characters: about how much the log-likelihood of
all the texts grows. Ties go to the smallest pair of ids, so that one text gives one tokenizer. A pair that would grow
longer than LONGEST characters is skipped.

Source: Schuster & Nakajima 2012, https://research.google/pubs/pub37842/, which takes what increases the likelihood of
the training data the most, and gives no formula; nor do Devlin et al. 2018, https://arxiv.org/abs/1810.04805.
"""

import heapq
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from nanotx.tokenizers.words import WORDS, cut

Pair = tuple[int, int]
Token = tuple[str, bool]
"""A text, and whether it begins a piece or continues one."""
LONGEST = 32  # characters of a token; a longer run is several
WALL = -1  # separates two pieces, and marks a position that was merged away


def ratio(pair: int, left: int, right: int, whole: int) -> float:
    """Return how much likelier one occurrence of the pair becomes, as it is counted.

    Args:
        pair: how often it occurs.
        left: how often its first token does.
        right: how often its second one does.
        whole: the characters of all the texts.
    """
    return pair / (left * right)


def gain(pair: int, left: int, right: int, whole: int) -> float:
    """Return how much the log-likelihood of the texts grows, as above."""
    return pair * math.log(pair * whole / (left * right))


SCORES: dict[str, Callable[[int, int, int, int], float]] = {"ratio": ratio, "gain": gain}


class Line:
    """All distinct pieces in one sequence, with the counts of each token and each pair in the texts."""

    def __init__(self, pieces: Mapping[str, int], ids: Mapping[Token, int], score: str) -> None:
        self.ids, self.weights = [WALL], [0]
        for piece, count in pieces.items():
            self.ids += [ids[letter, not at] for at, letter in enumerate(piece)]
            self.ids.append(WALL)
            self.weights += [count] * (len(piece) + 1)
        self.before = list(range(-1, len(self.ids) - 1))
        self.after = list(range(1, len(self.ids) + 1))
        self.tokens: defaultdict[int, int] = defaultdict(int)
        self.pairs: defaultdict[Pair, int] = defaultdict(int)
        self.places: defaultdict[Pair, list[int]] = defaultdict(list)
        self.pairs_of: defaultdict[int, dict[Pair, None]] = defaultdict(dict)  # the pairs that a token is in
        self._score, self._whole = SCORES[score], sum(len(piece) * count for piece, count in pieces.items())
        for token, weight in zip(self.ids, self.weights, strict=True):
            self.tokens[token] += weight
        for at, pair in enumerate(pairwise(self.ids)):
            self._count(pair, at)

    def score(self, pair: Pair) -> float:
        """By how much the texts become likelier with the pair."""
        return self._score(self.pairs[pair], self.tokens[pair[0]], self.tokens[pair[1]], self._whole)

    def merge(self, pair: Pair, new: int) -> list[Pair]:
        """Replace each occurrence of a pair with the id `new`, left to right; return the pairs whose score changed."""
        ids, left, right = self.ids, *pair
        for at in sorted(self.places.pop(pair)):
            other = self.after[at]
            if ids[at] != left or ids[other] != right:
                continue  # one of the two was merged away since
            previous, following, weight = self.before[at], self.after[other], self.weights[at]
            self._forget((ids[previous], left), weight)
            self._forget((right, ids[following]), weight)
            self._forget(pair, weight)
            self.tokens[left] -= weight
            self.tokens[right] -= weight
            self.tokens[new] += weight
            ids[at], ids[other] = new, WALL
            self.after[at], self.before[following] = following, at
            self._count((ids[previous], new), previous)
            self._count((new, ids[following]), at)
        return list(dict.fromkeys(touched for token in (left, right, new) for touched in self.pairs_of[token]))

    def _count(self, pair: Pair, at: int) -> None:
        if WALL not in pair:
            self.pairs[pair] += self.weights[at]
            self.places[pair].append(at)
            self.pairs_of[pair[0]][pair] = self.pairs_of[pair[1]][pair] = None

    def _forget(self, pair: Pair, weight: int) -> None:
        if WALL in pair:
            return
        self.pairs[pair] -= weight
        if not self.pairs[pair]:
            del self.pairs[pair]
            for token in pair:
                self.pairs_of[token].pop(pair, None)


def alphabet_of(pieces: Mapping[str, int]) -> list[Token]:
    """Return each character of the pieces as a beginning, then each that may stand inside a piece as a continuation.

    So any text of these characters has tokens, in whatever order they come.
    """
    letters = sorted(set("".join(pieces)))
    inside = [letter for letter in letters if len(cut(WORDS, letter + letter)) == 1]
    return [(letter, True) for letter in letters] + [(letter, False) for letter in inside]


def learn_tokens(
    pieces: Mapping[str, int], alphabet: Sequence[Token], wanted: int, least: int = 1, score: str = "ratio"
) -> list[Token]:
    """Return the alphabet and the merged tokens in the order learned: `wanted` of them, or as many as the pieces allow.

    Args:
        pieces: how often each piece occurs in the texts.
        alphabet: what the pieces are made of.
        wanted: how many tokens there are to be.
        least: how often a pair must occur to be merged.
        score: the name of one of SCORES.
    """
    tokens = list(alphabet)
    line = Line(pieces, {token: index for index, token in enumerate(tokens)}, score)
    heap = [(-line.score(pair), pair) for pair, count in line.pairs.items() if count >= least]
    heapq.heapify(heap)
    while heap and len(tokens) < wanted:
        promised, pair = heapq.heappop(heap)
        if line.pairs.get(pair, 0) < least or line.score(pair) != -promised:
            continue  # it was pushed again when its score changed
        (left, begins), (right, _) = tokens[pair[0]], tokens[pair[1]]
        if len(left) + len(right) > LONGEST:
            continue
        changed = line.merge(pair, len(tokens))
        tokens.append((left + right, begins))
        for touched in changed:
            if line.pairs[touched] >= least:
                heapq.heappush(heap, (-line.score(touched), touched))
    return tokens
