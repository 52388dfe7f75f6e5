"""The longest match first: a piece becomes the longest token that begins it, then the longest that goes on, and so on.

Source: Devlin et al. 2018, https://arxiv.org/abs/1810.04805, whose published code cuts so.
"""

from collections.abc import Mapping

import numpy as np

from nanotx.errors import TokenizerError
from nanotx.tokenizers._likelihood import Token

MARK = "##"  # before a written token that goes on with a piece


def written(token: Token) -> str:
    """A token as a vocabulary writes it.

    Raises:
        TokenizerError: it is empty, or begins a piece and would be read as another that goes on with one.
    """
    text, begins = token
    if not text:
        raise TokenizerError("wordpiece: a token is empty; expected at least one character.")
    if begins and text.startswith(MARK) and text != MARK:
        raise TokenizerError(
            f"wordpiece: the token {text[:40]!r} begins a piece, and is written as {text[2:42]!r} is that goes on with "
            "one; expected tokens that can be told apart."
        )
    return text if begins else MARK + text


def read_written(text: str) -> Token:
    """The token that is written so."""
    return (text, True) if text == MARK or not text.startswith(MARK) else (text.removeprefix(MARK), False)


class Greedy:
    """Cuts pieces into the ids of tokens; where that cannot be, into the one id of `<unk>`, if there is one."""

    def __init__(self, ids: Mapping[Token, int], unknown: int | None) -> None:
        self.beginning = {text: one for (text, begins), one in ids.items() if begins}
        self.inside = {text: one for (text, begins), one in ids.items() if not begins}
        self.longest = max(len(text) for text, _ in ids)
        self.unknown = unknown

    def __call__(self, piece: str) -> bytes | None:
        """The ids, as the bytes of an int32 array; None where there are none."""
        ids, at, known = list[int](), 0, self.beginning
        while at < len(piece):
            for end in range(min(at + self.longest, len(piece)), at, -1):
                found = known.get(piece[at:end])
                if found is not None:
                    break
            else:
                return None if self.unknown is None else np.int32(self.unknown).tobytes()
            ids.append(found)
            at, known = end, self.inside
        return np.array(ids, np.int32).tobytes()
