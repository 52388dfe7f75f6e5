"""Values of flags: how a word on the command line becomes a value of a field's type, and what an error says of it."""

import re
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from nanotx.config.other_names import VALUES
from nanotx.config.schema import UNIONS
from nanotx.errors import did_you_mean

TRUTH = {"true": True, "false": False}
"""How a boolean is written as a value."""


def is_variadic(kind: Any) -> bool:
    """Return whether a type is a tuple of any length."""
    return get_origin(kind) is tuple and get_args(kind)[-1] is Ellipsis


def is_switch(kind: Any) -> bool:
    """Return whether a flag of a type needs no value: a bool, or a bool or one of some words."""
    return kind is bool or (get_origin(kind) in UNIONS and bool in get_args(kind))


def takes_text(kind: Any) -> bool:
    """Return whether a value of a type is any text, which may begin with a hyphen."""
    return kind is str or (get_origin(kind) is tuple and str in get_args(kind))


def literal_words(kind: Any) -> dict[str, Any]:
    """Return the words that a type accepts besides numbers and texts, with their values."""
    if kind is NoneType:
        return {"none": None}
    if kind is bool:
        return TRUTH
    if get_origin(kind) in UNIONS:
        return {word: value for option in get_args(kind) for word, value in literal_words(option).items()}
    options = get_args(kind) if get_origin(kind) is Literal else ()  # an empty text stands for "not given"
    return {str(value): value for value in options if value != ""}


def convert(kind: Any, word: str) -> Any:
    """Return a word as a value of a type.

    Raises:
        ValueError: the word is not a value of this type.
    """
    words = literal_words(kind)
    if word in words:
        return words[word]
    if word in ("True", "False", "None") and word.lower() in words:  # as Python spells them
        return words[word.lower()]
    for option in get_args(kind) if get_origin(kind) in UNIONS else [kind]:
        if option in (int, float, str):
            return option(word)
    raise ValueError(word)


def suggest_value(kind: Any, word: str) -> str:
    """Return the value that was probably meant, as a sentence after a space; empty where there is none."""
    if int in numbers_of(kind) and (
        match := re.fullmatch(r"(\d+(?:\.\d+)?)(k|m|e[0-9])", word.lower().replace("_", ""))
    ):
        factor = {"k": 1e3, "m": 1e6}.get(match[2]) or float(f"1{match[2]}")
        return f" Did you mean {float(match[1]) * factor:.0f}?"
    words = literal_words(kind)
    return f" Did you mean {VALUES[word]!r}?" if VALUES.get(word) in words else did_you_mean(word, words)


def name_of_type(kind: Any) -> str:
    """Return the name that the help shows for the values of a type."""
    if kind is bool:
        return ""
    if get_origin(kind) is tuple:
        first, *rest = get_args(kind)
        return f"{name_of_type(first)} ..." if rest[-1:] == [Ellipsis] else " ".join(map(name_of_type, (first, *rest)))
    numbers = [option.__name__.upper() for option in numbers_of(kind)]
    return "|".join([*numbers, *literal_words(kind)]) or "TEXT"


def numbers_of(kind: Any) -> list[type]:
    """Return the number types that a type accepts."""
    return [option for option in (get_args(kind) if get_origin(kind) in UNIONS else [kind]) if option in (int, float)]
