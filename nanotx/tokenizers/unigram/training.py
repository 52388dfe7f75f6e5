"""Train Unigram: a large vocabulary of frequent substrings, fitted by EM, then pruned to the requested size.

Substrings of one length are numbered in the order of their code points, from those one shorter: the number of the
shorter one and the next character make a pair, and the pairs are sorted.

Expectation: how often each token is expected, over all the ways to cut each piece. Maximisation: the tokens'
probabilities are in proportion to that. Pruning: the tokens go whose loss is least, a share of them at a time; a
token's loss is how often it is expected times how much likelier it is than the likeliest way to cut it otherwise.
Characters stay, so that any text of them has tokens.

Source: Kudo 2018, https://arxiv.org/abs/1804.10959, section 3.2; the seeds by count times length, as its published code
takes them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Whole = NDArray[np.int64]
NONE = -1
WALL = "\n"  # ends a piece in the row of characters; what it is does not matter


@dataclass(frozen=True, eq=False)
class Row:
    """The pieces side by side, each with a wall after it, the longest first.

    Args:
        counts: how often each piece occurs in the texts.
    """

    counts: Mapping[str, int]

    @cached_property
    def pieces(self) -> list[str]:
        """In an order of their own, whatever that of the texts."""
        return sorted(self.counts, key=lambda piece: (-len(piece), piece))

    @cached_property
    def text(self) -> str:
        """All their characters; between a piece's first place and its wall lie the places where it can be cut."""
        return "".join(piece + WALL for piece in self.pieces)

    @cached_property
    def sizes(self) -> Whole:
        """The length of each piece."""
        return np.array([len(piece) for piece in self.pieces], np.int64)

    @cached_property
    def firsts(self) -> Whole:
        """Where each piece begins."""
        return np.cumsum(self.sizes + 1) - self.sizes - 1

    @cached_property
    def weights(self) -> Whole:
        """How often each piece occurs."""
        return np.array([self.counts[piece] for piece in self.pieces], np.int64)

    @cached_property
    def letters(self) -> tuple[Whole, Whole]:
        """The pieces' code points in order, and the number of the one at each place; none at a wall."""
        points = np.frombuffer(self.text.encode("utf-32-le"), np.uint32).astype(np.int64)
        points[self.firsts + self.sizes] = NONE
        alphabet, numbers = np.unique(points, return_inverse=True)
        return alphabet[1:], numbers.reshape(-1) - 1


@dataclass(frozen=True)
class Level:
    """The substrings of one length."""

    counts: Whole  # how often each occurs in the texts
    at: NDArray[np.int32]  # which of them begins at each place


def levels(row: Row, longest: int, least: int) -> list[Level]:
    """Return the characters, then the substrings of 2 to `longest` characters that occur at least `least` times."""
    alphabet, letters = row.letters
    weights = np.repeat(row.weights, row.sizes + 1)
    counts = np.bincount(letters + 1, weights, len(alphabet) + 1)[1:].astype(np.int64)
    ngrams = [Level(counts, letters.astype(np.int32))]
    for length in range(2, longest + 1):
        shorter = ngrams[-1].at[: max(len(letters) - length + 1, 0)].astype(np.int64)
        following = letters[length - 1 :]
        places = np.flatnonzero((shorter >= 0) & (following >= 0))
        pairs = shorter[places] * len(alphabet) + following[places]
        _, numbers = np.unique(pairs, return_inverse=True)
        counts = np.bincount(numbers.reshape(-1), weights[places]).astype(np.int64)
        often = counts >= least
        if not often.any():
            break
        renumbered = np.where(often, np.cumsum(often) - 1, NONE)
        at = np.full(len(letters), NONE, np.int32)
        at[places] = renumbered[numbers.reshape(-1)]
        ngrams.append(Level(counts[often], at))
    return ngrams


LONGEST = 16  # characters of a token
STRETCH = 128  # characters; a longer piece is learned from in stretches of so many
SEEDS = 8  # so many times the vocabulary to begin with
KEPT = 0.75  # of the vocabulary, each time it is pruned
ROUNDS = 2  # of EM before each pruning, and after the last
FAINT = 0.01  # a token is taken to be expected so often at least, so that it keeps a score
DIGITS = 6  # of a score behind the point

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Field:
    """A vocabulary, laid over all the pieces at once.

    The characters are its first tokens.
    """

    row: Row
    at: NDArray[np.int32]  # for each length but one, and each place: the token of that length that begins there
    letters: int  # how many characters there are
    places: Whole  # where each token occurs first
    sizes: Whole  # how long each is

    def tokens(self) -> list[str]:
        """Return the tokens' texts."""
        spans = zip(self.places.tolist(), (self.places + self.sizes).tolist(), strict=True)
        return [self.row.text[start:end] for start, end in spans]

    def filtered(self, alive: NDArray[np.bool_]) -> "Field":
        """Return the field without the tokens that are not alive."""
        numbers = np.append(np.where(alive, np.cumsum(alive) - 1, NONE), NONE).astype(np.int32)
        return Field(self.row, numbers[self.at], self.letters, self.places[alive], self.sizes[alive])


def learn_scores(pieces: Mapping[str, int], wanted: int, least: int = 1) -> tuple[dict[str, float], int]:
    """Return the tokens and their scores, the likeliest first, and how many tokens the pieces allow.

    Args:
        pieces: how often each piece occurs in the texts.
        wanted: how many tokens there are to be; fewer come where the pieces do not allow so many, and no fewer than
            their characters.
        least: how often a substring must occur to be a token.
    """
    field, possible = seeded(stretched(pieces), wanted, least)
    counts = _occurrences(field)
    while True:
        for _ in range(ROUNDS):
            scores = scores_of(counts)
            counts = expected(field, scores)
        if len(field.sizes) <= wanted or len(field.sizes) == field.letters:
            break
        size = max(wanted, int(len(field.sizes) * KEPT), field.letters)
        lost = losses(field, scores_of(counts), counts)
        order = np.lexsort((np.arange(len(lost)), -lost))
        alive = np.zeros(len(lost), np.bool_)
        alive[order[:size]] = True
        field, counts = field.filtered(alive), counts[alive]
    scores = np.round(scores_of(counts), DIGITS)
    score_of = dict(zip(field.tokens(), scores.tolist(), strict=True))
    return dict(sorted(score_of.items(), key=lambda item: (-item[1], item[0]))), possible


def stretched(pieces: Mapping[str, int]) -> dict[str, int]:
    """Return the pieces, the long ones in stretches."""
    shorter = dict[str, int]()
    for piece, count in pieces.items():
        for at in range(0, len(piece), STRETCH):
            segment = piece[at : at + STRETCH]
            shorter[segment] = shorter.get(segment, 0) + count
    return shorter


def seeded(pieces: Mapping[str, int], wanted: int, least: int) -> tuple[Field, int]:
    """Return the characters and the best substrings by count times length; ties go to the longest, then by code points.

    Also says how many tokens there could be.
    """
    row = Row(pieces)
    ngrams = levels(row, LONGEST, least)
    letters = len(ngrams[0].counts)
    best = [_best(level, SEEDS * wanted) for level in ngrams[1:]]
    size = np.concatenate(
        [np.full(len(chosen), length) for length, chosen in enumerate(best, 2)] or [np.zeros(0, np.int64)]
    )
    number = np.concatenate([*best, np.zeros(0, np.int64)])
    count = np.concatenate(
        [*(level.counts[chosen] for level, chosen in zip(ngrams[1:], best, strict=True)), np.zeros(0)]
    )
    order = np.lexsort((number, -size, -count * size))[: SEEDS * wanted]
    size, number = np.append(np.ones(letters, np.int64), size[order]), np.append(np.arange(letters), number[order])
    at = np.full((len(ngrams), len(row.text)), NONE, np.int32)
    places = np.zeros(len(size), np.int64)
    for index, level in enumerate(ngrams):
        tokens = np.flatnonzero(size == index + 1)
        renumbered = np.full(len(level.counts) + 1, NONE, np.int32)  # the last one means no substring
        renumbered[number[tokens]] = tokens
        at[index] = renumbered[level.at]
        somewhere = np.flatnonzero(at[index] != NONE)[::-1]
        places[at[index][somewhere]] = somewhere
    return Field(row, at, letters, places, size), sum(len(level.counts) for level in ngrams)


def scores_of(counts: Floats) -> Floats:
    """Return the tokens' log-probabilities, in proportion to how often they are expected."""
    some = np.maximum(counts, FAINT)
    scores: Floats = np.log(some) - np.log(some.sum())
    return scores


def expected(field: Field, scores: Floats) -> Floats:
    """Return how often each token is expected, over all the ways to cut each piece.

    Forward, the weight of all the ways to each place; backward, each place's expected visits go to the tokens that end
    there by their shares, and with them to where they begin.
    """
    row, padded = field.row, np.append(scores, -np.inf)  # where there is no token there is no way
    weights, visits = np.full(len(row.text), -np.inf), np.zeros(len(row.text))
    weights[row.firsts], visits[row.firsts + row.sizes] = 0.0, row.weights
    counts = np.zeros(len(padded))
    depths = range(1, int(row.sizes[0]) + 1)
    for depth in depths:
        ends, starts, tokens = _ending(field, depth)
        ways = weights[starts] + padded[tokens]
        most = ways.max(0)
        weights[ends] = most + np.log(np.exp(ways - most).sum(0))
    for depth in reversed(depths):
        ends, starts, tokens = _ending(field, depth)
        shares = np.exp(weights[starts] + padded[tokens] - weights[ends]) * visits[ends]
        counts += np.bincount(tokens.reshape(-1) + 1, shares.reshape(-1), len(padded))
        for places, share in zip(starts, shares, strict=True):
            visits[places] += share
    return counts[1:]


def losses(field: Field, scores: Floats, counts: Floats) -> Floats:
    """Return what the texts' log-likelihood would lose without each token: infinitely much without a character."""
    padded = np.append(scores, -np.inf)
    longest = len(field.at)
    best = np.full((longest + 1, len(scores)), -np.inf)
    best[0] = 0.0
    for depth in range(1, longest + 1):
        inside = np.flatnonzero((field.sizes >= depth) & (field.sizes > 1))
        for length in range(1, depth + 1):
            start = field.places[inside] + depth - length
            way = best[depth - length, inside] + padded[field.at[length - 1, start]]
            way[field.sizes[inside] == length] = -np.inf  # that would be the token itself
            best[depth, inside] = np.maximum(best[depth, inside], way)
    otherwise = best[field.sizes, np.arange(len(scores))]
    lost: Floats = counts * (scores - otherwise)
    lost[: field.letters] = np.inf
    return lost


def _best(level: Level, most: int) -> Whole:
    """Return the numbers of the most frequent substrings of one length; ties go by code points."""
    return np.argsort(-level.counts, kind="stable")[:most]


def _occurrences(field: Field) -> Floats:
    """Return how often each token occurs, whatever overlaps it: where EM begins."""
    weights = np.repeat(field.row.weights, field.row.sizes + 1).astype(np.float64)
    counts = [np.bincount(tokens + 1, weights, len(field.sizes) + 1)[1:] for tokens in field.at]
    total: Floats = np.sum(counts, 0)
    return total


def _ending(field: Field, depth: int) -> tuple[Whole, Whole, NDArray[np.int32]]:
    """Return the places so deep in their pieces, where tokens of each length that end there begin, and these tokens."""
    row = field.row
    ends = row.firsts[row.sizes >= depth] + depth
    lengths = np.arange(1, min(depth, len(field.at)) + 1).reshape(-1, 1)
    starts: Whole = ends - lengths
    return ends, starts, field.at[lengths - 1, starts]
