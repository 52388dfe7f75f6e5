r"""Translate the regex of a tokenizer to JavaScript so that it splits every text as Python does.

What matches a single character (a letter, an escape such as `\p{L}`, a set such as `[^\s\p{L}]`) becomes the explicit
ranges of the characters that it matches here. So neither the Unicode version of a browser nor its notion of a space or
of upper case matters. What is left is syntax that means the same in both languages; anything else is refused.
"""

import re
from functools import lru_cache

import regex

from nanotx.errors import ConfigError
from nanotx.tokenizers.regexes import ESCAPE, SET

SURROGATES, MANY_SURROGATES = 0xD800, 0x800
"""The first surrogate, and how many there are; none is a character."""

CHARACTERS = "".join(map(chr, [*range(SURROGATES), *range(SURROGATES + MANY_SURROGATES, 0x110000)]))
"""Every character, in order."""

OPEN = re.compile(r"\((?:\?(?:[:=!]|(?P<flags>[is]+):))?")
REPEAT = re.compile(r"[*?+]|\{(?P<least>\d*)(?P<range>,)?(?P<most>\d*)\}")
ONE_CHARACTER = re.compile(r"\\(?:[pP]\{[^{}]*\}|[dDsSwWnrtfv]|x[\da-fA-F]{2}|u[\da-fA-F]{4}|[^\w\s])")


def translated(source: str) -> str:
    """Return a regex of Python's `regex` module as one of JavaScript, for the flag `u`.

    Raises:
        ConfigError: a part of it cannot be translated exactly; says which.
    """
    text, at = alternatives(source, 0, "")
    if at < len(source):
        raise untranslatable(source, at)
    return text


def alternatives(source: str, at: int, flags: str) -> tuple[str, int]:
    """Return the translation up to the end of a group, or of the source, and the offset there."""
    parts = list[str]()
    while at < len(source) and source[at] != ")":
        if source[at] == "|":
            parts.append("|")
            at += 1
            continue
        item, at = translated_item(source, at, flags)
        repeat, at = translated_repeat(source, at)
        parts.append(item + repeat)
    return "".join(parts), at


def translated_item(source: str, at: int, flags: str) -> tuple[str, int]:
    """Return the translation of a group or of what matches one character, and the offset after it."""
    if source[at] == "(":
        match = OPEN.match(source, at)
        if match is None or (source.startswith("(?", at) and match.end() == at + 1):
            raise untranslatable(source, at)
        inner, end = alternatives(source, match.end(), flags + (match["flags"] or ""))
        opening = match[0] if match[0] in ("(?=", "(?!") else "(?:"
        return f"{opening}{inner})", end + 1
    if source[at] == "[":
        match = SET.match(source, at)
    elif source[at] == "\\":
        match = ESCAPE.match(source, at)
        if match and not ONE_CHARACTER.fullmatch(match[0]):
            match = None
    else:
        match = re.compile(r"[^*+?{}()|^$]", re.DOTALL).match(source, at)
    if match is None:
        raise untranslatable(source, at)
    return ranges(match[0], "".join(sorted(set(flags)))), match.end()


def translated_repeat(source: str, at: int) -> tuple[str, int]:
    """Return the translation of a quantifier, if there is one, and the offset after it."""
    match = REPEAT.match(source, at)
    if match is None:
        return "", at
    end, text = match.end(), match[0]
    if text[0] == "{":
        if not (match["least"] or match["most"]):
            raise untranslatable(source, at)
        text = f"{{{match['least'] or 0}{match['range'] or ''}{match['most']}}}"
    if source.startswith("+", end):  # it would give nothing back
        raise untranslatable(source, at)
    if source.startswith("?", end):
        text, end = f"{text}?", end + 1
    if REPEAT.match(source, end):
        raise untranslatable(source, end)
    return text, end


@lru_cache(maxsize=256)
def ranges(source: str, flags: str) -> str:
    """Return the set of the characters that an expression for one character matches, as JavaScript writes it."""
    expression = f"(?{flags}:{source})" if flags else f"(?:{source})"
    runs = regex.finditer(f"{expression}+", CHARACTERS)
    parts = [part for run in runs for part in codes(run.start(), run.end() - 1)]
    return "[" + "".join(shown(low) + (f"-{shown(high)}" if low < high else "") for low, high in parts) + "]"


def codes(first: int, last: int) -> list[tuple[int, int]]:
    """Return the code points at two places of `CHARACTERS`, and those beside the surrogates between them."""
    if first < SURROGATES <= last:
        return [(first, SURROGATES - 1), (SURROGATES + MANY_SURROGATES, last + MANY_SURROGATES)]
    beyond = MANY_SURROGATES if first >= SURROGATES else 0
    return [(first + beyond, last + beyond)]


def shown(code: int) -> str:
    """Return a character as JavaScript writes it in a set."""
    character = chr(code)
    return character if character.isascii() and character.isalnum() else f"\\u{{{code:x}}}"


def untranslatable(source: str, at: int) -> ConfigError:
    """Return the error of a part of a regex that has no exact translation."""
    return ConfigError(
        f"html: the tokenizer's pattern {source[:60]!r} cannot be translated to JavaScript exactly: "
        f"{source[at : at + 12]!r} at offset {at}. Literals, sets, \\p{{...}}, groups, alternatives, lookaheads and "
        "greedy or lazy repeats can."
    )
