"""A grammar with weights: it writes endless text, and knows to the bit how surprising each character was.

A rule is a set of alternatives, of which one is chosen by weight. Where there are several, each begins with a
character of its own: the next character says which was chosen, so a text can be read in one way only, and its
surprisal is the sum of its choices.
"""

from bisect import bisect
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from nanotx.corpus._entropy import expected
from nanotx.corpus._rule import Rules, Symbol, read
from nanotx.errors import ConfigError, DataError, did_you_mean


class Grammar:
    """Rules, and the one that it starts from again and again.

    Args:
        rules: a rule's name, its alternatives as texts in which `<name>` calls a rule, and their weights.
        start: the name of the rule to start from.

    Raises:
        ConfigError: a rule could be read in two ways or not at all; says which and why.
    """

    def __init__(self, rules: Rules, start: str) -> None:
        self.rules = read(rules)
        self.numbers = {rule.name: number for number, rule in enumerate(self.rules)}
        self.start = self._number(start)

    def write(self, draw: Callable[[], float]) -> Iterator[str]:
        """Endless text, in pieces.

        Args:
            draw: gives a number from [0, 1) for each choice; equal numbers make equal texts on every machine.
        """
        stack: list[Symbol] = []
        while True:
            symbol = stack.pop() if stack else self.start
            if isinstance(symbol, str):
                yield symbol
                continue
            rule = self.rules[symbol]
            last = len(rule.sums) - 1
            stack += rule.stacks[bisect(rule.sums, draw() * rule.sums[-1], hi=last) if last else 0]

    def surprisal(self, text: str) -> NDArray[np.float64]:
        """The bits that each character costs one who knows the grammar and what came before.

        A choice is charged to the character that reveals it, the first of its alternative.

        Args:
            text: begins where the start does, and may break off anywhere.

        Raises:
            DataError: the grammar does not write this text; says at which character.
        """
        bits, at = np.zeros(len(text)), 0
        stack: list[Symbol] = []
        while at < len(text):
            symbol = stack.pop() if stack else self.start
            if isinstance(symbol, str):
                if not text.startswith(symbol, at) and not symbol.startswith(text[at:]):
                    self._refuse(text, at, symbol)
                at += len(symbol)
                continue
            rule, chosen = self.rules[symbol], 0
            if rule.begins:
                if text[at] not in rule.begins:
                    self._refuse(text, at, *rule.begins)
                chosen = rule.begins[text[at]]
                bits[at] = rule.bits[chosen]
            stack += rule.stacks[chosen]
        return bits

    def entropy(self, rule: str = "") -> float:
        """The expected bits of all the choices in one writing of a rule, the start where none is named.

        Raises:
            ConfigError: there is no such rule, or its writing is not expected to end.
        """
        return expected(self.rules, self._number(rule) if rule else self.start)[0]

    def length(self, rule: str = "") -> float:
        """The expected characters in one writing of a rule, the start where none is named.

        Raises:
            ConfigError: there is no such rule, or its writing is not expected to end.
        """
        return expected(self.rules, self._number(rule) if rule else self.start)[1]

    def rate(self) -> float:
        """The bits per character of the endless text: those of one start over its characters."""
        bits, characters = expected(self.rules, self.start)
        return bits / characters

    def _number(self, name: str) -> int:
        if name not in self.numbers:
            raise ConfigError(f"grammar: there is no rule {name!r}.{did_you_mean(name, self.numbers)}")
        return self.numbers[name]

    def _refuse(self, text: str, at: int, *wanted: str) -> None:
        if len(wanted) == 1:  # a literal: go to the first character that differs
            same = next(index for index, letter in enumerate(wanted[0]) if text[at + index] != letter)
            at, wanted = at + same, (wanted[0][same],)
        raise DataError(
            f"grammar: got {text[at]!r} (U+{ord(text[at]):04X}) at character {at}; "
            f"expected {' or '.join(map(repr, wanted))}."
        )
