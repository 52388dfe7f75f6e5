"""Read rules from lines, and rewrite them so that every alternative begins with a character of its own.

`<noun> sleeps | <name> speaks` becomes `king sleeps | queen sleeps | Ned speaks`, each as probable as before.
Source: Greibach 1965, A new normal-form theorem for context-free phrase structure grammars, Journal of the ACM 12(1)
"""

import math
import re
from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from os.path import commonprefix

from nanotx.data.corpus.playhouse.grammar import Rules
from nanotx.errors import ConfigError


def read_lines(text: str) -> dict[str, dict[str, int]]:
    """Return rules from lines such as `name: 3* text | text`; an indented line continues the one before."""
    rules: dict[str, dict[str, int]] = {}
    for line in re.sub(r"\n\s+", " ", text.strip()).splitlines():
        name, _, choices = line.partition(": ")
        weights = Counter[str]()
        for choice in choices.split(" | "):
            weight, _, alternative = choice.rpartition("* ")
            weights[alternative] += int(weight or 1)
        rules[name] = dict(weights)
    return rules


def factored(rules: Rules) -> Rules:
    """Return rules of the same texts and probabilities, whose alternatives begin with different characters.

    `noun: crown | crow-bar` becomes `noun: crow<noun: crow>` and `noun: crow: n | -bar`. A text that is a prefix of
    another leaves an empty alternative, and two that diverge at rules leave alternatives that begin with rules: a
    Grammar refuses both.
    """
    factored_rules: dict[str, dict[str, int]] = {}
    for name, choices in rules.items():
        _factor(name, choices, factored_rules)
    return factored_rules


def _factor(name: str, choices: Mapping[str, int], rules: dict[str, dict[str, int]]) -> None:
    rules[name] = {}
    groups: dict[str, list[str]] = {}
    for text in choices:
        groups.setdefault(text[:1] if text[:1] != "<" else text, []).append(text)
    for texts in groups.values():
        if len(texts) == 1:
            rules[name][texts[0]] = choices[texts[0]]
            continue
        shared = commonprefix(texts)  # noqa: RUF071  of characters, not of folders
        if shared.rfind("<") > shared.rfind(">"):  # do not cut the name of a rule
            shared = shared[: shared.rfind("<")]
        inner = f"{name}: {shared}".translate({ord("<"): "(", ord(">"): ")"})
        rules[name][f"{shared}<{inner}>"] = sum(choices[text] for text in texts)
        _factor(inner, {text.removeprefix(shared): choices[text] for text in texts}, rules)


Shares = dict[str, Fraction]  # alternatives and their probabilities


def unrolled(rules: Rules) -> Rules:
    """Return rules of the same texts and probabilities, in which no one of several alternatives begins with a rule.

    Raises:
        ConfigError: a rule begins with itself, directly or through others.
    """
    probabilities = {name: _shares(rules, name, ()) for name in rules}
    return {name: _weights(shares) for name, shares in probabilities.items()}


def _shares(rules: Rules, name: str, above: tuple[str, ...]) -> Shares:
    if name in above:
        raise ConfigError(f"grammar: rule {above[0]!r} leads to {name!r}, which begins with itself.")
    total, shares = sum(rules[name].values()), Shares()
    for text, weight in rules[name].items():
        first, end, rest = text.partition(">")
        calls = first.startswith("<") and end and first[1:] in rules and len(rules[name]) > 1
        begins = _whole(rules, first[1:], (*above, name)) if calls else {text: Fraction(1)}
        for begin, share in begins.items():
            whole = begin + rest if calls else begin
            shares[whole] = shares.get(whole, Fraction(0)) + Fraction(weight, total) * share
    return shares


def _whole(rules: Rules, name: str, above: tuple[str, ...]) -> Shares:
    """Return the result of `_shares`, unrolled even if there is no choice."""
    shares = _shares(rules, name, above)
    ((text, _), *others) = shares.items()
    first, end, rest = text.partition(">")
    if others or not (text.startswith("<") and end and first[1:] in rules):
        return shares
    return {begin + rest: share for begin, share in _whole(rules, first[1:], (*above, name)).items()}


def _weights(shares: Shares) -> dict[str, int]:
    """Return integers in the same proportions."""
    scale = math.lcm(*(share.denominator for share in shares.values()))
    weights = {text: int(share * scale) for text, share in shares.items()}
    common = math.gcd(*weights.values())
    return {text: weight // common for text, weight in weights.items()}
