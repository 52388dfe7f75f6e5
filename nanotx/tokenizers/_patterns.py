r"""Where byte-level BPE cuts a text before it merges: a regex whose matches are the pieces.

No merge crosses the border of a piece. What the regex leaves unmatched is a piece of its own, so that the
pieces of a text, joined, are the text, whatever the regex.

Sources: gpt2, https://github.com/openai/gpt-2/blob/master/src/encoder.py; gpt4 (cl100k_base),
https://github.com/openai/tiktoken/blob/main/tiktoken_ext/openai_public.py
"""

import math
import re
from collections.abc import Iterator

import regex

from nanotx.errors import ConfigError, TokenizerError, did_you_mean

NAMED = {
    "gpt2": r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+""",
    "gpt4": r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"""
    r"""| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+""",
}
LONGEST = 1000  # characters of a regex
REPEATS = 10_000  # `(?:a{1000}){1000}` is unrolled when it is compiled, and a third such brace fills the memory


def source_of(pattern: str) -> str:
    """The regex that a name stands for; a regex of the user's own stands for itself.

    Raises:
        ConfigError: it is neither.
    """
    if pattern in NAMED:
        return NAMED[pattern]
    if re.fullmatch(r"[\w-]*", pattern):
        near = did_you_mean(pattern, NAMED)
        raise ConfigError(
            f"pattern: no pattern named {pattern!r}.{near} Known: {', '.join(NAMED)}; "
            r"or a regex of your own such as '\s?\w+'."
        )
    Splitter(pattern)
    return pattern


def name_of(source: str) -> str:
    """The name of a regex; "own" where it has none."""
    return next((name for name, known in NAMED.items() if known == source), "own")


class Splitter:
    """Cuts texts into pieces by one regex, in the syntax of the `regex` module.

    Raises:
        ConfigError: this is no regex, or one too large to compile.
    """

    def __init__(self, source: str) -> None:
        least = [int(count or 0) for count in re.findall(r"\{\s*(\d*)\s*(?:,\s*\d*\s*)?\}", source)]
        if len(source) > LONGEST or math.prod(max(count, 1) for count in least) > REPEATS:
            raise ConfigError(
                f"pattern: expected a regex of at most {LONGEST} characters and {REPEATS} repeats "
                f"(braces multiplied), got {len(source)} characters: {source[:40]!r}."
            )
        self.source = source
        try:
            self._regex = regex.compile(source)
        except Exception as error:  # the module raises more kinds of error than it documents
            raise ConfigError(f"pattern: {source!r} is no regex: {error}.") from None

    def pieces(self, text: str) -> list[str]:
        """The text in pieces; joined, they are the text.

        Raises:
            TokenizerError: a regex of the user's own takes forever on this text.
        """
        patience = 10 + len(text) / 100_000 if name_of(self.source) == "own" else None  # seconds
        try:
            if not self._regex.groups:
                pieces: list[str] = self._regex.findall(text, timeout=patience)
                if "".join(pieces) == text:
                    return pieces
            return list(self._walk(text, patience))
        except TimeoutError:
            raise TokenizerError(
                f"bpe: the pattern {self.source!r} needs more than {patience:.0f} seconds for a text of "
                f"{len(text)} characters; try one without nested repeats, such as gpt4."
            ) from None

    def _walk(self, text: str, patience: float | None) -> Iterator[str]:
        """The pieces and the gaps between them, whichever way the regex walks."""
        at = 0
        for match in self._regex.finditer(text, timeout=patience):
            start, end = max(at, match.start()), match.end()
            if end > start:
                yield from filter(None, (text[at:start], text[start:end]))
                at = end
        if at < len(text):
            yield text[at:]
