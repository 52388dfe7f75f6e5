r"""Regexes that mean the same here and in the library `tokenizers`, whose regexes are Oniguruma's, in Ruby's syntax.

There `$` is the end of a line, `\w` knows no `²`, `{1,3}+` is no possessive repeat but a repeat of a repeat, and
`(?i:ss)` matches `ß`. So only what is known to be one and the same passes: literals, categories such as `\p{L}`, `\s`,
`\d`, classes, groups, lookaheads, repeats. What may match nothing at all does not pass either: how an empty match is
walked over differs.

Source: https://github.com/kkos/oniguruma/blob/master/doc/RE
"""

import re

from nanotx.errors import TokenizerError

LONGEST = 1000  # characters
CATEGORY = r"[pP]\{[LMNPSZC][a-z]?\}"
ESCAPE = rf"\\(?:{CATEGORY}|[sSdDrnt]|[^\w\s])"
RANGE = rf"(?:{ESCAPE}|[^\\\[\]&|~-])(?:-(?:\\[^\w\s]|[^\\\[\]&|~-]))?"
TOKEN = re.compile(
    rf"(?P<set>\[\^?(?:{RANGE})+\]|{ESCAPE}|\.)"
    r"|(?P<contractions>\(\?i:'s\|'t\|'re\|'ve\|'m\|'ll\|'d\)|'\(\?i:\[sdmt\]\|ll\|ve\|re\))"
    r"|(?P<ahead>\(\?[=!])|(?P<open>\((?:\?[:>])?)(?!\?)|(?P<close>\))|(?P<bar>\|)"
    r"|(?P<repeat>[*+?][?+]?|\{\d+(?:,\d*)?\}(?![?+*{]))"
    r"|(?P<literal>[^\\\[\](){}^$.|*+?])"
)
ALIKE = {"set": "x", "contractions": "x", "ahead": "(?:", "open": "(?:", "bar": "|", "literal": "x"}


def check_portable(where: str, source: str) -> None:
    """Check that a regex cuts a text alike here and there.

    Raises:
        TokenizerError: something in it may not; says what.
    """
    if len(source) > LONGEST:
        raise TokenizerError(f"{where}: expected a regex of at most {LONGEST} characters, got {len(source)}.")
    at, length, groups = 0, list[str](), list[str]()
    while at < len(source):
        found = TOKEN.match(source, at)
        if not found or found.lastgroup is None:
            raise TokenizerError(
                f"{where}: the regex {source[:60]!r}: {source[at : at + 12]!r} may mean one thing here and another in "
                r"the library; expected literals, classes, \p{L} and its like, \s, \d, groups, lookaheads and repeats. "
                "Try --tokenizer huggingface, which learns and cuts by the library."
            )
        kind = found.lastgroup
        if kind in ("ahead", "open"):
            groups.append(kind)
        optional = kind == "close" and bool(groups) and groups.pop() == "ahead"  # what is ahead is not matched
        length.append(")?" if optional else ALIKE.get(kind, found[0]))
        at = found.end()
    try:
        empty = re.fullmatch("".join(length), "")
    except (re.error, OverflowError, RecursionError) as error:
        raise TokenizerError(f"{where}: {source[:60]!r} is no regex: {error}.") from None
    if empty:
        raise TokenizerError(
            f"{where}: the regex {source[:60]!r} may match nothing at all, and how that is walked over differs in the "
            "library; expected one whose matches have at least one character."
        )
