"""What one writing of a rule is expected to take, in bits and in characters, exactly.

A rule takes what is its own and what the rules that it calls take: x = own + calls x, a linear system. It is
solved by writing each rule into those that call it, the last ones first; calls of itself sum to
1 / (1 - calls). All terms are positive, so none is lost to another, and a rule that calls itself once or more
has no end.

Source: Soule 1974, Entropies of probabilistic grammars, Information and Control 25(1)
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nanotx.corpus._rule import Rule
from nanotx.errors import ConfigError


def expected(rules: Sequence[Rule], start: int) -> tuple[float, float]:
    """The expected bits of all choices in one writing of a rule, and its expected characters.

    Raises:
        ConfigError: the writing is not expected to end.
    """
    takes, calls = {start: _own(rules[start])}, {start: _calls(rules[start])}
    callers: dict[int, set[int]] = defaultdict(set)
    order = [start]
    for number in order:  # grows while it is walked, until it holds every rule that the start may call
        for child in calls[number]:
            if child not in calls:
                takes[child], calls[child] = _own(rules[child]), _calls(rules[child])
                order.append(child)
            callers[child].add(number)
    for number in reversed(order):
        again = calls[number].pop(number, 0.0)
        if again > 1 - 1e-12:
            raise ConfigError(
                f"grammar: rule {rules[start].name!r} is not expected to end: {rules[number].name!r} "
                f"comes again {again:g} times; weigh the alternatives that end it more."
            )
        takes[number] /= 1 - again
        for caller in callers[number] - {number}:
            times = calls[caller].pop(number)
            takes[caller] += times * takes[number]
            for child, share in calls[number].items():
                calls[caller][child] += times * share / (1 - again)
                callers[child].add(caller)
        for child in calls[number]:
            callers[child].discard(number)
    bits, characters = takes[start]
    return float(bits), float(characters)


def _own(rule: Rule) -> NDArray[np.float64]:
    """The expected bits and characters of a rule without those of the rules it calls."""
    sizes = [sum(len(symbol) for symbol in symbols if isinstance(symbol, str)) for symbols in rule.alternatives]
    return np.array([np.dot(rule.shares, rule.bits), np.dot(rule.shares, sizes)])


def _calls(rule: Rule) -> dict[int, float]:
    """How often a rule is expected to call each rule."""
    calls: dict[int, float] = defaultdict(float)
    for share, symbols in zip(rule.shares, rule.alternatives, strict=True):
        for symbol in symbols:
            if isinstance(symbol, int):
                calls[symbol] += share
    return calls
