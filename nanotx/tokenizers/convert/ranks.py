"""Merges, from the order of the tokens alone.

Each token was made by the last of the merges that its bytes go through when only earlier tokens are known: merge its
bytes so, and the two parts that are left are its pair. Where this finds the pairs that a tokenizer has, a library that
merges whatever two neighbours make a token, and takes a piece that is a token whole, gives the ids of one that merges
these pairs alone: inside a token nothing else can have happened.
"""

from collections.abc import Sequence
from itertools import pairwise

from nanotx.errors import TokenizerError

Pair = tuple[int, int]
LONGEST = 256  # bytes of a token that nanotx takes
WORK = 1 << 26  # steps; GPT-2's 50,256 tokens need a 27th of them


def merges_of(where: str, tokens: Sequence[bytes]) -> list[Pair]:
    """Return the pair that each token is merged from: bytes by their values, then tokens from 256 on, in their order.

    Args:
        where: the file, for errors.
        tokens: those of more than one byte, in the order of their ranks.

    Raises:
        TokenizerError: a token cannot be made of earlier ones.
    """
    if any(len(token) > LONGEST for token in tokens) or sum(len(token) ** 2 for token in tokens) > WORK:
        longest = max(map(len, tokens))
        raise TokenizerError(
            f"{where}: its tokens are too long, the longest of {longest} bytes; expected at most {LONGEST}, few of "
            "them near that."
        )
    numbers = {bytes([value]): value for value in range(256)}
    merges = list[Pair]()
    for token in tokens:
        parts = _merged(token, numbers)
        if len(parts) != 2:
            raise TokenizerError(
                f"{where}: the token {token!r} cannot be merged from earlier ones: they make {len(parts)} parts of it, "
                f"{parts[:4]}. Try the part of the library, --tokenizer tiktoken or huggingface with --tokenizer.path."
            )
        merges.append((numbers[parts[0]], numbers[parts[1]]))
        numbers[token] = 256 + len(merges) - 1
    return merges


def _merged(token: bytes, numbers: dict[bytes, int]) -> list[bytes]:
    """Return the bytes of a token, merged by the lowest rank, the leftmost first, until nothing more can be."""
    parts, none = [token[at : at + 1] for at in range(len(token))], len(numbers)
    while len(parts) > 1:
        ranks = [numbers.get(left + right, none) for left, right in pairwise(parts)]
        least = min(ranks)
        if least == none:
            break
        at = ranks.index(least)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts
