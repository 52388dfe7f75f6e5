"""Patterns of parameter names: which of several rules decides about each name."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from nanotx.errors import ConfigError, did_you_mean

SHOWN = 6
"""Names that an error lists."""


def first_match(names: Iterable[str], patterns: Sequence[str], where: str) -> dict[str, int]:
    """Return for each name the index of the first pattern that matches it; names that none matches are left out.

    In a pattern `*` stands for any characters, dots included, and `?` for one, as on a shell: `blocks.*.norm.weight`.

    Args:
        names: names of parameters, such as `blocks.0.ffn.to_out.weight`.
        patterns: the patterns, in the order in which they are tried.
        where: the field that holds them, which errors begin with.

    Raises:
        ConfigError: a pattern matches no name, or only names that patterns before it match.
    """
    names, rule_of = list(names), dict[str, int]()
    for index, pattern in enumerate(patterns):
        matched = [name for name in names if fnmatchcase(name, pattern)]
        fresh = [name for name in matched if name not in rule_of]
        if not matched:
            shown = ", ".join(names[:SHOWN]) + f", ... ({len(names)} in all)" * (len(names) > SHOWN)
            near = did_you_mean(pattern, names)
            raise ConfigError(f"{where}[{index}].match: {pattern!r} matches no parameter.{near} Parameters: {shown}.")
        if not fresh:
            earlier = patterns[rule_of[matched[0]]]
            raise ConfigError(
                f"{where}[{index}].match: {pattern!r} matches only parameters that an earlier pattern matches, such as "
                f"{matched[0]} by {earlier!r}, and the first match decides; put it before that one."
            )
        rule_of |= dict.fromkeys(fresh, index)
    return rule_of
