r"""Where byte-level BPE cuts a text before it merges: a regex whose matches are the pieces.

No merge crosses the border of a piece. A named pattern also has a form for ASCII, in the syntax of the standard
library, which is quicker; its blanks are spelled out, because there `\s` takes U+001C to U+001F for blank, too.

Sources: gpt2, https://github.com/openai/gpt-2/blob/master/src/encoder.py; gpt4 (cl100k_base),
https://github.com/openai/tiktoken/blob/main/tiktoken_ext/openai_public.py
"""

import re

import regex

from nanotx.errors import ConfigError, did_you_mean
from nanotx.tokenizers._bounded import check_calls, check_flags, check_matches, check_size

NAMED = {
    "gpt2": r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+""",
    "gpt4": r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"""
    r"""| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+""",
}
ASCII = {
    name: source.replace(r"[^\s\p{L}\p{N}]", r"[^\t-\r A-Za-z0-9]")
    .replace(r"[^\r\n\p{L}\p{N}]", r"[^\r\nA-Za-z0-9]")
    .replace(r"\p{L}", "[A-Za-z]")
    .replace(r"\p{N}", "[0-9]")
    .replace(r"(?!\S)", r"(?![^\t-\r ])")
    .replace(r"\s", r"[\t-\r ]")
    for name, source in NAMED.items()
}


def source_of(pattern: str) -> str:
    """The regex that a name stands for; a regex of the user's own stands for itself.

    Raises:
        ConfigError: it is neither, or it may match the empty text, or take memory without bound.
    """
    if pattern in NAMED:
        return NAMED[pattern]
    if re.fullmatch(r"[\w-]*", pattern):
        near = did_you_mean(pattern, NAMED)
        raise ConfigError(
            f"pattern: no pattern named {pattern!r}.{near} Known: {', '.join(NAMED)}; "
            r"or a regex of your own such as '\s?\w+|(?s:.)'."
        )
    compile_source(pattern)
    check_matches(pattern)
    return pattern


def name_of(source: str) -> str:
    """The name of a regex; "own" where it has none."""
    return next((name for name, known in NAMED.items() if known == source), "own")


def compile_source(source: str) -> "regex.Pattern[str]":
    """A regex in the syntax of the `regex` module, ready to be asked.

    Raises:
        ConfigError: this is no regex, or one too large to compile, or one that calls itself.
    """
    check_size(source)
    check_calls(source)
    check_flags(source)
    try:
        return regex.compile(source)
    except Exception as error:  # the module raises more kinds of error than it documents
        raise ConfigError(f"pattern: {source!r} is no regex: {error}.") from None
