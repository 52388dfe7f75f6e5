r"""Regexes that split a text into pieces: the published ones, and bounds on those of a user or a file.

No merge crosses the boundary of a piece. A named pattern also has a faster form for ASCII, in the syntax of the
standard library; its whitespace is spelled out, because `\s` matches U+001C to U+001F there.

Sources: gpt2, https://github.com/openai/gpt-2/blob/master/src/encoder.py; gpt4 (cl100k_base),
https://github.com/openai/tiktoken/blob/main/tiktoken_ext/openai_public.py

A recursive regex keeps a frame for each call: `(?R)?a|(?s:.)` takes 5 GB in 3 seconds. One that may match the empty
text loses what is not matched. Both show in the source of a regex, so it is parsed here, in the syntax of the `regex`
module, and the minimal length of a match is computed. Syntax that this parser does not know is refused.
"""

import math
import re

import regex

from nanotx.errors import ConfigError, did_you_mean

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
    """Return the regex of a name; a regex of the user's own is returned as it is.

    Raises:
        ConfigError: it is neither, or it may match the empty text, or need unbounded memory.
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
    """Return the name of a regex; "own" if it has none."""
    return next((name for name, known in NAMED.items() if known == source), "own")


def compile_source(source: str) -> "regex.Pattern[str]":
    """Compile a regex of the `regex` module.

    Raises:
        ConfigError: it is not a valid regex, too large to compile, or recursive.
    """
    check_size(source)
    check_calls(source)
    check_flags(source)
    try:
        return regex.compile(source)
    except Exception as error:  # the module raises more kinds of error than it documents
        raise ConfigError(f"pattern: {source!r} is not a valid regex: {error}.") from None


LONGEST = 1000  # characters of a regex
REPEATS = 10_000  # `(?:a{1000}){1000}` is unrolled when it is compiled, and a third such brace fills the memory
WRITTEN_OUT = 200_000  # characters with all repeats unrolled, each of which may take 500 bytes
CALLS = re.compile(r"\(\?(?:R\)|[+-]?\d+\)|&|P>)|\\g(?:<|\{|')")
SET = re.compile(r"\[\^?\]?(?:\\.|\[:\^?\w+:\]|[^\]\\])*\]", re.DOTALL)
ESCAPE = re.compile(
    r"\\(?:[pP](?:\{[^{}]*\}|\w)|N\{[^{}]*\}|x[\da-fA-F]{2}|u[\da-fA-F]{4}|U[\da-fA-F]{8}|0[0-7]{0,2}|[1-9]\d?|.)",
    re.DOTALL,
)
OPEN = re.compile(r"\((?:\?(?:(?P<ahead><?[=!])|[:>]|P?<[^\W\d]\w*>|(?P<flags>[aimrsu]*(?:-[ims]+)?)(?P<end>[:)])))?")
COMMENT = re.compile(r"\(\?#[^)]*\)")
BACK = re.compile(r"\(\?P=\w+\)")
FLAGS = re.compile(r"\(\?[A-Za-z01]*(?:-[A-Za-z]*)?(?=[:)])")
REPEAT = re.compile(r"(?:[*?+]|\{\s*(?P<least>\d*)\s*(?:,\s*\d*\s*)?\})[?+]?")
NOTHING = "bBAZzmM"  # escapes that match a place
REFUSED = "KGL"


def check_size(source: str, longest: int = LONGEST) -> None:
    """Refuse a regex that is too large to compile.

    Raises:
        ConfigError: it is; says by how much.
    """
    least = [int(count or 0) for count in re.findall(r"\{\s*(\d*)\s*(?:,\s*\d*\s*)?\}", source)]
    if len(source) > longest or math.prod(max(count, 1) for count in least) > REPEATS:
        raise ConfigError(
            f"pattern: expected a regex of at most {longest} characters and {REPEATS} repeats "
            f"(braces multiplied), got {len(source)} characters: {source[:40]!r}."
        )
    if written_out(source) > WRITTEN_OUT:
        raise ConfigError(
            f"pattern: {source[:60]!r}: with its repeats unrolled, as it is compiled, it has more than "
            f"{WRITTEN_OUT} characters; expected fewer nested repeats."
        )


def written_out(source: str) -> int:
    """Estimate the length of a regex with its repeats unrolled: the minimal number of copies, and one more."""
    total, last, outer, at = 0, 0, list[int](), 0
    while at < len(source):
        char, repeat = source[at], REPEAT.match(source, at) if last else None
        if repeat:
            least = int(repeat["least"] or 0) if char == "{" else int(char == "+")
            total, last, at = total + least * last, (least + 1) * last, repeat.end()
            continue
        if char == "(":
            outer.append(total)
            total, last, at = 0, 0, at + 1
            continue
        if char == ")" and outer:
            total, last, at = total + outer.pop() + 1, total + 1, at + 1
            continue
        charset = SET.match(source, at) if char == "[" else None
        total, last, at = total + 1, int(char != "|"), charset.end() if charset else at + (2 if char == "\\" else 1)
    return total + sum(outer)


def check_flags(source: str) -> None:
    """Refuse flags that change the syntax: `x`, which ignores whitespace, and `V1`, which nests sets.

    Raises:
        ConfigError: the regex has one; says where.
    """
    for match in FLAGS.finditer(source):
        if "x" in match[0] or "V1" in match[0]:
            raise _unknown(source, match.start())


def check_calls(source: str) -> None:
    r"""Refuse a regex that calls itself or a group of its own: `(?R)`, `(?1)`, `(?&name)`, `(?P>name)`, `\g<name>`.

    Raises:
        ConfigError: it does; says where.
    """
    at = 0
    while at < len(source):
        if CALLS.match(source, at):
            raise ConfigError(
                f"pattern: {source[:60]!r}: {source[at : at + 10]!r} at offset {at} calls the regex, or a group of "
                "it, recursively: such a match needs unbounded memory. Try to write that part out."
            )
        at += 2 if source[at] == "\\" else 1  # in a set or a comment, too: where these end depends on flags


def check_matches(source: str) -> None:
    """Refuse a regex that may match the empty text, or whose syntax is unknown here; it is known to compile.

    Raises:
        ConfigError: it does; says what, or where.
    """
    least, at = _alternatives(source, 0)
    if at < len(source):
        raise _unknown(source, at)
    if not least:
        raise ConfigError(
            f"pattern: the regex {source[:60]!r} may match the empty text, so that text is lost; "
            "expected one whose matches have at least one character; try '|(?s:.)' at its end."
        )


def _alternatives(source: str, at: int) -> tuple[int, int]:
    """Return the minimal length of a match of alternatives, and the offset after them: a parenthesis, or the end."""
    best: int | None = None
    while True:
        least, at = _sequence(source, at)
        best = least if best is None else min(best, least)
        if not source.startswith("|", at):
            return best, at
        at += 1


def _sequence(source: str, at: int) -> tuple[int, int]:
    total = 0
    while at < len(source) and source[at] not in "|)":
        least, at = _item(source, at)
        while repeat := REPEAT.match(source, at):
            first, at = repeat[0][0], repeat.end()
            least = 0 if first in "*?" else least if first == "+" else least * int(repeat["least"] or 0)
        total += least
    return total, at


def _item(source: str, at: int) -> tuple[int, int]:
    char = source[at]
    if char == "(":
        return _group(source, at)
    if char == "[":
        match = SET.match(source, at)
        if match is None:
            raise _unknown(source, at)
        return 1, match.end()
    if char == "\\":
        match = ESCAPE.match(source, at)
        if match is None or source[at + 1] in REFUSED or CALLS.match(source, at):
            raise _unknown(source, at)
        return int(source[at + 1] not in NOTHING + "123456789"), match.end()
    if char in "*+?{":
        raise _unknown(source, at)
    return int(char not in "^$"), at + 1


def _group(source: str, at: int) -> tuple[int, int]:
    if match := COMMENT.match(source, at) or BACK.match(source, at):
        return 0, match.end()
    match = OPEN.match(source, at)
    if match is None or (match.end() == at + 1 and source.startswith(("(?", "(*"), at)):
        raise _unknown(source, at)
    if match["end"] == ")":  # flags alone
        return 0, match.end()
    least, end = _alternatives(source, match.end())
    return 0 if match["ahead"] else least, end + 1


def _unknown(source: str, at: int) -> ConfigError:
    return ConfigError(
        f"pattern: {source[:60]!r}: {source[at : at + 10]!r} at offset {at} is not known to be bounded; "
        r"expected literals, classes, escapes such as \p{L}, groups, lookaheads and repeats; a literal brace is \{."
    )
