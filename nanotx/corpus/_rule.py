"""A rule of a grammar, and what is asked of it so that no text can be read in two ways."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from nanotx.errors import ConfigError, did_you_mean

Rules = Mapping[str, Mapping[str, int]]  # a rule's name, to its alternatives and their weights
Symbol = str | int  # a literal text, or the number of a rule


@dataclass(frozen=True)
class Rule:
    """Alternatives and their weights, ready to be written and read.

    Raises:
        ConfigError: there is no alternative, a weight is below 1, or one of several alternatives is
            empty, begins with a rule, or begins as another does.
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
                    "expected a character of its own, which says that it was chosen."
                )
            if symbols[0][0] in seen:
                raise ConfigError(
                    f"grammar: rule {self.name!r}: two alternatives begin with {symbols[0][0]!r}; "
                    "write that character once and put what follows into a rule of its own."
                )
            seen.add(symbols[0][0])


def read(rules: Rules) -> list[Rule]:
    """The rules of a mapping, numbered in its order; in an alternative, `<name>` calls a rule.

    Raises:
        ConfigError: a rule is none, or is called by a name that none bears, or begins with itself.
    """
    numbers = {name: number for number, name in enumerate(rules)}
    found = [
        Rule(name, tuple(_symbols(name, text, numbers) for text in choices), tuple(choices.values()))
        for name, choices in rules.items()
    ]
    for rule in found:
        _check_progress(rule, found)
    return found


def _symbols(rule: str, text: str, numbers: Mapping[str, int]) -> tuple[Symbol, ...]:
    """An alternative of a rule, cut into literal texts and the numbers of the rules it calls."""
    symbols: list[Symbol] = []
    for part in re.split(r"(<[^<>]*>)", text):
        name = part[1:-1]
        if not part.startswith("<"):
            symbols += [part] if part else []
        elif name in numbers:
            symbols.append(numbers[name])
        else:
            raise ConfigError(
                f"grammar: rule {rule!r} calls {part}, which is none of {len(numbers)} rules."
                f"{did_you_mean(name, numbers)}"
            )
    return tuple(symbols)


def _check_progress(rule: Rule, rules: list[Rule]) -> None:
    """A rule that begins with itself would be opened for ever and never write a character."""
    seen, at = set(), rule
    while isinstance(first := at.alternatives[0][0], int):
        if at.name in seen:
            raise ConfigError(f"grammar: rule {rule.name!r} leads to {at.name!r}, which begins with itself.")
        seen.add(at.name)
        at = rules[first]
