"""Scripts: a text cut into stretches of one script each, and its words counted.

What belongs to no script alone (white space, most punctuation and digits, accents that are marks of their own) goes
with the script before it, at the beginning of a text with the one after it.

Source: Unicode Standard Annex 24, Unicode script property, https://www.unicode.org/reports/tr24/
"""

from collections.abc import Iterator
from functools import cache

import regex

NAMES = """
    Arabic Armenian Bengali Bopomofo Cherokee Coptic Cyrillic Devanagari Ethiopic Georgian Gothic Greek Gujarati
    Gurmukhi Han Hangul Hebrew Hiragana Javanese Kannada Katakana Khmer Lao Latin Malayalam Mongolian Myanmar Oriya
    Sinhala Syriac Tamil Telugu Thaana Thai Tibetan Tifinagh Yi"""
OTHER = "Other"
"""All other scripts together."""
COMMON = "Common"
"""The one stretch of a text that has no letters."""
SHARED = r"\p{Script=Common}\p{Script=Inherited}\p{Script=Unknown}"
ALONE = r"\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}"
WORD = regex.compile(rf"(?V1)[{ALONE}]|[[\w\p{{M}}]--[{ALONE}]]+")


def stretches(text: str) -> Iterator[tuple[str, str]]:
    """The text in order, as scripts and stretches; joined, the stretches are the text."""
    start, script = 0, COMMON
    for match in _runs().finditer(text):
        if match.lastgroup != script != COMMON:
            yield script, text[start : match.start()]
            start = match.start()
        script = match.lastgroup or COMMON
    if text:
        yield script, text[start:]


def words(text: str) -> int:
    """How many words a text has: runs of letters, marks and digits, and each Chinese or Japanese letter by itself."""
    return sum(1 for _ in WORD.finditer(text))


@cache
def _runs() -> "regex.Pattern[str]":
    """Letters of one script and all that goes with them."""
    known = "".join(rf"\p{{Script={name}}}" for name in NAMES.split())
    runs = [rf"(?P<{name}>\p{{Script={name}}}[\p{{Script={name}}}{SHARED}]*)" for name in NAMES.split()]
    return regex.compile("|".join([*runs, rf"(?P<{OTHER}>[^{known}{SHARED}][^{known}]*)"]))
