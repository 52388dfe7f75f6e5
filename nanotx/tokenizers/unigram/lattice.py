"""All the ways in which a piece can be cut into tokens: the likeliest of them, and one drawn at random.

A way's score is the sum of its tokens' log-probabilities. Where two ways to one place are as likely, the one stands
whose last token is the longer.

Source: Kudo 2018, https://arxiv.org/abs/1804.10959, sections 3.2 (the likeliest) and 3.3 (drawn).
"""

import math
from collections.abc import Callable, Mapping
from itertools import accumulate, groupby

import numpy as np


class Lattice:
    """Cuts pieces into the ids of tokens, of which every character of a token is one.

    Args:
        tokens: each token's score and id.
        unknown: the id of `<unk>`, which a run of other characters becomes; None: there are none in any piece.
    """

    def __init__(self, tokens: Mapping[str, tuple[float, int]], unknown: int | None) -> None:
        self.tokens = tokens
        self.letters = {token for token in tokens if len(token) == 1}
        self.longest = max(map(len, tokens))
        self.unknown = unknown

    def __call__(self, piece: str) -> bytes:
        """The ids of the likeliest way, as the bytes of an int32 array."""
        return self._by_runs(piece, self.best)

    def sample(self, piece: str, dice: np.random.Generator, alpha: float) -> bytes:
        """The ids of a way drawn with a probability in proportion to its own, to the power `alpha`; as above."""
        return self._by_runs(piece, lambda run: self.drawn(run, dice, alpha))

    def best(self, piece: str) -> list[int]:
        """The likeliest way: forward, the best score of each place and the token that ends there; then backward."""
        tokens, longest, size = self.tokens, self.longest, len(piece)
        best, came = [0.0] + [-math.inf] * size, [(0, 0)] * (size + 1)
        for start in range(size):
            so_far = best[start]
            for end in range(start + 1, min(start + longest, size) + 1):
                found = tokens.get(piece[start:end])
                if found is not None and so_far + found[0] > best[end]:
                    best[end], came[end] = so_far + found[0], (start, found[1])
        ids, end = list[int](), size
        while end:
            end, one = came[end]
            ids.append(one)
        return ids[::-1]

    def drawn(self, piece: str, dice: np.random.Generator, alpha: float) -> list[int]:
        """Forward, the log of the weights of all ways to each place; backward, a last token at a time by its share."""
        weights, last = [0.0], list[list[tuple[float, int, int]]]([[]])
        for end in range(1, len(piece) + 1):
            ways = [
                (weights[start] + alpha * found[0], start, found[1])
                for start in range(max(end - self.longest, 0), end)
                if (found := self.tokens.get(piece[start:end])) is not None
            ]
            most = max(weight for weight, _, _ in ways)
            weights.append(most + math.log(sum(math.exp(weight - most) for weight, _, _ in ways)))
            last.append(ways)
        ids, end = list[int](), len(piece)
        while end:
            shares = accumulate(math.exp(weight - weights[end]) for weight, _, _ in last[end])
            point = dice.random()
            place = next((place for place, share in enumerate(shares) if point < share), -1)  # rounding may miss all
            _, end, one = last[end][place]
            ids.append(one)
        return ids[::-1]

    def _by_runs(self, piece: str, cut: Callable[[str], list[int]]) -> bytes:
        """The ids of each run of known characters, as `cut` gives them, and `<unk>` for each run of others."""
        if self.unknown is None or self.letters.issuperset(piece):
            return np.array(cut(piece), np.int32).tobytes()
        ids = list[int]()
        for known, run in groupby(piece, self.letters.__contains__):
            ids += cut("".join(run)) if known else [self.unknown]
        return np.array(ids, np.int32).tobytes()
