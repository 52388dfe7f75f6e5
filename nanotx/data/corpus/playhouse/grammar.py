"""A probabilistic grammar: it generates endless text, and computes the exact surprisal of each character.

The expected value of a rule is its own plus those of the rules that it calls: x = own + calls x, a linear system. It is
solved by substituting each rule into its callers, the last ones first; calls of itself sum to 1 / (1 - calls). All
terms are positive, so there is no cancellation, and a rule that is expected to call itself once or more never ends.

Source: Soule 1974, Entropies of probabilistic grammars, Information and Control 25(1)

A rule is a set of alternatives, of which one is chosen by weight. If there are several, each begins with a different
character: the next character identifies the choice, so a text has only one parse, and its surprisal is the sum over its
choices.
"""

import math
import re
from bisect import bisect
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from nanotx.errors import ConfigError, DataError, did_you_mean

Rules = Mapping[str, Mapping[str, int]]  # a rule's name, to its alternatives and their weights
Symbol = str | int  # a literal text, or the number of a rule


@dataclass(frozen=True)
class Rule:
    """Alternatives and their weights, prepared for generating and parsing.

    Raises:
        ConfigError: there is no alternative, a weight is below 1, or one of several alternatives is
            empty, begins with a rule, or begins with the same character as another.
    """

    name: str
    alternatives: tuple[tuple[Symbol, ...], ...]
    weights: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.alternatives:
            raise ConfigError(f"grammar: rule {self.name!r} has no alternatives.")
        for weight in self.weights:
            if weight < 1:
                raise ConfigError(f"grammar: rule {self.name!r}: expected a weight of 1 or more, got {weight}.")
        if not all(self.alternatives):
            raise ConfigError(f"grammar: rule {self.name!r} has an empty alternative; give it a character.")
        if len(self.alternatives) > 1:
            self._check_beginnings()

    @cached_property
    def sums(self) -> tuple[int, ...]:
        """The running sums of the weights."""
        return tuple(accumulate(self.weights))

    @cached_property
    def shares(self) -> tuple[float, ...]:
        """The probability of each alternative."""
        return tuple(weight / self.sums[-1] for weight in self.weights)

    @cached_property
    def bits(self) -> tuple[float, ...]:
        """The surprisal of each alternative."""
        return tuple(-math.log2(share) for share in self.shares)

    @cached_property
    def stacks(self) -> tuple[tuple[Symbol, ...], ...]:
        """The alternatives, last symbol first, as a stack takes them."""
        return tuple(symbols[::-1] for symbols in self.alternatives)

    @cached_property
    def begins(self) -> dict[str, int]:
        """The first character of each alternative, to its number; empty where there is no choice."""
        if len(self.alternatives) == 1:
            return {}
        return {
            symbols[0][0]: number for number, symbols in enumerate(self.alternatives) if isinstance(symbols[0], str)
        }

    def _check_beginnings(self) -> None:
        seen = set()
        for symbols in self.alternatives:
            if isinstance(symbols[0], int):
                raise ConfigError(
                    f"grammar: rule {self.name!r}: one of several alternatives begins with a rule; "
                    "expected each to begin with a character of its own, by which the choice is read."
                )
            if symbols[0][0] in seen:
                raise ConfigError(
                    f"grammar: rule {self.name!r}: two alternatives begin with {symbols[0][0]!r}; "
                    "write that character once and put what follows into a rule of its own."
                )
            seen.add(symbols[0][0])


def read(rules: Rules) -> list[Rule]:
    """Return the rules of a mapping, numbered in its order; in an alternative, `<name>` calls a rule.

    Raises:
        ConfigError: a rule is invalid, begins with itself, or is called by an unknown name.
    """
    numbers = {name: number for number, name in enumerate(rules)}
    read_rules = [
        Rule(name, tuple(_symbols(name, text, numbers) for text in choices), tuple(choices.values()))
        for name, choices in rules.items()
    ]
    for rule in read_rules:
        _check_progress(rule, read_rules)
    return read_rules


def _symbols(rule: str, text: str, numbers: Mapping[str, int]) -> tuple[Symbol, ...]:
    """Return an alternative of a rule, cut into literal texts and the numbers of the rules it calls."""
    symbols: list[Symbol] = []
    for part in re.split(r"(<[^<>]*>)", text):
        name = part[1:-1]
        if not part.startswith("<"):
            symbols += [part] if part else []
        elif name in numbers:
            symbols.append(numbers[name])
        else:
            raise ConfigError(
                f"grammar: rule {rule!r} calls {part}, and none of the {len(numbers)} rules has that name."
                f"{did_you_mean(name, numbers)}"
            )
    return tuple(symbols)


def _check_progress(rule: Rule, rules: list[Rule]) -> None:
    """Raise ConfigError for a rule that begins with itself, which would be expanded forever without a character."""
    seen, at = set(), rule
    while isinstance(first := at.alternatives[0][0], int):
        if at.name in seen:
            raise ConfigError(f"grammar: rule {rule.name!r} leads to {at.name!r}, which begins with itself.")
        seen.add(at.name)
        at = rules[first]


def expected(rules: Sequence[Rule], start: int) -> tuple[float, float]:
    """Return the expected bits of all choices in one expansion of a rule, and its expected characters.

    Raises:
        ConfigError: the expansion is not expected to end.
    """
    takes, calls = {start: _own(rules[start])}, {start: _calls(rules[start])}
    callers: dict[int, set[int]] = defaultdict(set)
    order = [start]
    for number in order:  # grows during iteration to every rule that the start may call
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
                f"is expected to call itself {again:g} times; raise the weights of alternatives that do not."
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
    """Return the expected bits and characters of a rule without those of the rules it calls."""
    sizes = [sum(len(symbol) for symbol in symbols if isinstance(symbol, str)) for symbols in rule.alternatives]
    return np.array([np.dot(rule.shares, rule.bits), np.dot(rule.shares, sizes)])


def _calls(rule: Rule) -> dict[int, float]:
    """Return how often a rule is expected to call each rule."""
    calls: dict[int, float] = defaultdict(float)
    for share, symbols in zip(rule.shares, rule.alternatives, strict=True):
        for symbol in symbols:
            if isinstance(symbol, int):
                calls[symbol] += share
    return calls


class Grammar:
    """Rules, and the start rule, which is expanded repeatedly.

    Args:
        rules: a rule's name, its alternatives as texts in which `<name>` calls a rule, and their weights.
        start: the name of the rule to start from.

    Raises:
        ConfigError: a rule is ambiguous or invalid; the message says which and why.
    """

    def __init__(self, rules: Rules, start: str) -> None:
        self.rules = read(rules)
        self.numbers = {rule.name: number for number, rule in enumerate(self.rules)}
        self.start = self._number(start)

    def write(self, draw: Callable[[], float]) -> Iterator[str]:
        """Yield endless text, in pieces.

        Args:
            draw: returns a number from [0, 1) for each choice; equal numbers give equal texts on every machine.
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
        """Return the surprisal in bits of each character, given the grammar and the text before it.

        A choice is charged to the character that reveals it, the first of its alternative.

        Args:
            text: begins as the start rule does, and may end anywhere.

        Raises:
            DataError: the grammar does not generate this text; the message says at which character.
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
        """Return the expected bits of all choices in one expansion of a rule; by default of the start.

        Raises:
            ConfigError: there is no such rule, or its expansion is not expected to end.
        """
        return expected(self.rules, self._number(rule) if rule else self.start)[0]

    def length(self, rule: str = "") -> float:
        """Return the expected characters of one expansion of a rule; by default of the start.

        Raises:
            ConfigError: there is no such rule, or its expansion is not expected to end.
        """
        return expected(self.rules, self._number(rule) if rule else self.start)[1]

    def rate(self) -> float:
        """Return the bits per character of the endless text: entropy over length of the start rule."""
        bits, characters = expected(self.rules, self.start)
        return bits / characters

    def _number(self, name: str) -> int:
        if name not in self.numbers:
            raise ConfigError(f"grammar: there is no rule {name!r}.{did_you_mean(name, self.numbers)}")
        return self.numbers[name]

    def _refuse(self, text: str, at: int, *choices: str) -> None:
        if len(choices) == 1:  # a literal: go to the first character that differs
            same = next(index for index, letter in enumerate(choices[0]) if text[at + index] != letter)
            at, choices = at + same, (choices[0][same],)
        raise DataError(
            f"grammar: got {text[at]!r} (U+{ord(text[at]):04X}) at character {at}; "
            f"expected {' or '.join(map(repr, choices))}."
        )
