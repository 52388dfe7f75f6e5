"""Segmentations of a piece into tokens: the most probable one (Viterbi), and a random one.

The score of a segmentation is the sum of the log-probabilities of its tokens. Of two equally probable ones up to a
position, that with the longer last token wins.

Source: Kudo 2018, https://arxiv.org/abs/1804.10959, sections 3.2 (the most probable) and 3.3 (sampling).
"""

import math
from collections.abc import Callable, Mapping
from itertools import accumulate, groupby

import numpy as np


class Lattice:
    """Segment pieces into ids of tokens; every character of a token is a token too.

    Args:
        tokens: score and id of each token.
        unknown: the id of `<unk>`, for a run of other characters; None if no piece has any.
    """

    def __init__(self, tokens: Mapping[str, tuple[float, int]], unknown: int | None) -> None:
        self.tokens = tokens
        self.letters = {token for token in tokens if len(token) == 1}
        self.longest = max(map(len, tokens))
        self.unknown = unknown

    def __call__(self, piece: str) -> bytes:
        """Return the ids of the most probable segmentation, as the bytes of an int32 array."""
        return self._by_runs(piece, self.best)

    def sample(self, piece: str, dice: np.random.Generator, alpha: float) -> bytes:
        """Return the ids of a random segmentation, with probability proportional to P ** alpha; as above."""
        return self._by_runs(piece, lambda run: self.drawn(run, dice, alpha))

    def best(self, piece: str) -> list[int]:
        """Return the most probable segmentation: forward, the best score of each position; then backward."""
        tokens, longest, size = self.tokens, self.longest, len(piece)
        best, came = [0.0] + [-math.inf] * size, [(0, 0)] * (size + 1)
        for start in range(size):
            so_far = best[start]
            for end in range(start + 1, min(start + longest, size) + 1):
                entry = tokens.get(piece[start:end])
                if entry is not None and so_far + entry[0] > best[end]:
                    best[end], came[end] = so_far + entry[0], (start, entry[1])
        ids, end = list[int](), size
        while end:
            end, token_id = came[end]
            ids.append(token_id)
        return ids[::-1]

    def drawn(self, piece: str, dice: np.random.Generator, alpha: float) -> list[int]:
        """Return a random segmentation: forward filtering of log-weights, then backward sampling."""
        weights, last = [0.0], list[list[tuple[float, int, int]]]([[]])
        for end in range(1, len(piece) + 1):
            ways = [
                (weights[start] + alpha * entry[0], start, entry[1])
                for start in range(max(end - self.longest, 0), end)
                if (entry := self.tokens.get(piece[start:end])) is not None
            ]
            most = max(weight for weight, _, _ in ways)
            weights.append(most + math.log(sum(math.exp(weight - most) for weight, _, _ in ways)))
            last.append(ways)
        ids, end = list[int](), len(piece)
        while end:
            shares = accumulate(math.exp(weight - weights[end]) for weight, _, _ in last[end])
            point = dice.random()
            place = next((place for place, share in enumerate(shares) if point < share), -1)  # rounding may miss all
            _, end, token_id = last[end][place]
            ids.append(token_id)
        return ids[::-1]

    def _by_runs(self, piece: str, cut: Callable[[str], list[int]]) -> bytes:
        """Return the ids that `cut` gives for each run of known characters, and `<unk>` for each run of others."""
        if self.unknown is None or self.letters.issuperset(piece):
            return np.array(cut(piece), np.int32).tobytes()
        ids = list[int]()
        for known, run in groupby(piece, self.letters.__contains__):
            ids += cut("".join(run)) if known else [self.unknown]
        return np.array(ids, np.int32).tobytes()
