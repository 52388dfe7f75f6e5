"""A config is a value: frozen dataclasses, read from plain tables strictly, and written back equal."""

import dataclasses
import math
import re
import types
from collections.abc import Sequence
from functools import cache
from numbers import Integral, Real
from reprlib import repr as brief
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from nanotx.config.registry import Slot
from nanotx.errors import ConfigError, UnknownPart, did_you_mean

Table = dict[str, Any]
T = TypeVar("T")
UNIONS = (Union, types.UnionType)
"""Origins of the union types; a field is `int | None`, or a number or a word such as `int | Literal["auto"]`."""
INT_LIMIT = 2**63
"""Exclusive bound of whole numbers, as in TOML and in tensors."""


# Ranges, checked by the `__post_init__` of a config.


def check_min(config: object, low: int | float, *names: str) -> None:
    """Raise ConfigError unless each of the named fields is a number of at least `low` (or None)."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not low <= value < (INT_LIMIT if isinstance(value, int) else math.inf):
            more = " and below 2**63" * (value >= INT_LIMIT)
            raise ConfigError(f"{name}: expected a number of at least {low:g}{more}, got {brief(value)}.")


def check_max(config: object, high: int | float, *names: str) -> None:
    """Raise ConfigError unless each of the named fields is a number of at most `high` (or None)."""
    for name in names:
        value = getattr(config, name)
        if value is not None and value > high:
            raise ConfigError(f"{name}: expected a number of at most {high:,}, got {brief(value)}.")


def is_number(what: str, value: object, whole: bool = False) -> None:
    """Raise ConfigError unless a value is a number of Python or NumPy, or a whole number; a bool is not a number."""
    if isinstance(value, bool) or not isinstance(value, Integral if whole else Real):
        kind = "whole number" if whole else "number"
        raise ConfigError(f"{what}: expected a {kind}, got {type(value).__name__} {brief(value)}.")


def in_range(what: str, value: Any, low: int | float, high: int | float, whole: bool = False) -> None:
    """Raise ConfigError unless a value is a number from `low` to `high`.

    Args:
        what: the name of the value, at the start of the error.
        value: the value, of any type.
        low: the minimum.
        high: the maximum.
        whole: require a whole number.
    """
    is_number(what, value, whole)
    if not value >= low:  # NaN is not
        raise ConfigError(f"{what}: expected a number of at least {low:,}, got {brief(value)}.")
    if whole and value > high == INT_LIMIT - 1:
        raise ConfigError(f"{what}: expected a number of at least {low:,} and below 2**63, got {brief(value)}.")
    if value > high:
        raise ConfigError(f"{what}: expected a number of at most {high:,}, got {brief(value)}.")


def check_fraction(config: object, *names: str) -> None:
    """Raise ConfigError unless each of the named fields is in [0, 1)."""
    for name in names:
        value = getattr(config, name)
        if not 0 <= value < 1:
            raise ConfigError(f"{name}: expected a fraction from 0 up to but not including 1, got {brief(value)}.")


def divisors(number: int) -> list[int]:
    """Return the divisors of a number up to 1000, for an error to suggest."""
    return [divisor for divisor in range(1, min(number, 1000) + 1) if number % divisor == 0]


def nearest(number: int, choices: Sequence[int]) -> int:
    """Return the choice that is nearest to a number, the smaller of two, for an error to suggest."""
    return min(choices, key=lambda choice: (abs(choice - number), choice))


# Values to tables and back.


def fields(kind: Any) -> dict[str, Any]:
    """Return the fields of a config with their types, in the order of the class; cached."""
    return _fields(kind)


@cache
def _fields(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def is_slot(kind: Any) -> bool:
    """Return whether a type is a slot or a part."""
    return isinstance(kind, type) and issubclass(kind, Slot)


def without_none(kind: Any) -> Any:
    """Return a type without its `| None`."""
    if get_origin(kind) in UNIONS and type(None) in get_args(kind):
        return next(option for option in get_args(kind) if option is not type(None))
    return kind


def is_not_literal(kind: Any) -> bool:
    """Return whether a type is not a Literal."""
    return get_origin(kind) is not Literal


def to_table(value: Any) -> Any:
    """Return a config as a plain table; `part` is the name of a part, and fields that are None or () are left out."""
    if dataclasses.is_dataclass(value):
        table: Table = {"part": value.part} if isinstance(value, Slot) else {}
        rows = ((name, getattr(value, name)) for name in fields(type(value)))
        return table | {name: to_table(item) for name, item in rows if item not in (None, ())}
    if isinstance(value, tuple):
        return [to_table(item) for item in value]
    return value


def from_table(kind: Any, table: Any, where: str = "", default: Any = None) -> Any:
    """Build a value of type `kind`, strictly.

    Raises:
        ConfigError: an unknown key, a wrong type or a value out of range; says where.
    """
    optional, kind = without_none(kind) is not kind, without_none(kind)
    if optional and table is None:
        return None
    if get_origin(kind) in UNIONS:
        literal, kind = sorted(get_args(kind), key=is_not_literal)
        if table in get_args(literal):
            return table
    if get_origin(kind) is Literal:
        if table not in get_args(kind):
            known = ", ".join(map(repr, get_args(kind)))
            near = did_you_mean(brief(table).strip("'"), map(str, get_args(kind)))
            raise ConfigError(f"{where}: expected one of {known}, got {brief(table)}.{near}")
        return table
    if get_origin(kind) is tuple:
        return _tuple(kind, table, where, default)
    if is_slot(kind):
        part, table = part_of(kind, table, where)
        return _build(part, table, where)
    if dataclasses.is_dataclass(kind):
        return _build(kind, table, where)
    return _scalar(kind, table, where, default)


def _build(kind: Any, table: Any, where: str) -> Any:
    if not isinstance(table, dict):
        raise ConfigError(f"{where}: expected a table, got {type(table).__name__} {brief(table)}.")
    known = fields(kind)
    values = {}
    for key, item in table.items():
        if key not in known:
            has = f"It has: {', '.join(sorted(known))}." if known else "It has none."
            near = did_you_mean(key, known)
            raise ConfigError(f"{join_path(where, key)}: {kind.__name__} has no such field.{near} {has}")
        default = kind.__dataclass_fields__[key].default
        values[key] = from_table(known[key], item, join_path(where, key), default)
    try:
        return kind(**values)
    except ConfigError as error:
        field = re.match(r"(\w+): ", str(error))
        joint = "." if field and field[1] in known else ": "
        raise ConfigError(f"{where}{joint}{error}" if where else str(error)) from None


def part_of(slot: Any, table: Any, where: str) -> tuple[Any, Table]:
    """Return the part that the value of a slot names, and the other keys of its table."""
    if not isinstance(table, str) and not (isinstance(table, dict) and isinstance(table.get("part"), str)):
        raise ConfigError(
            f'{where}: expected the name of a part such as "{slot.names()[0]}", or a table with `part`, '
            f"got {type(table).__name__} {brief(table)}."
        )
    try:
        table = slot.table(table) if isinstance(table, str) else table
        part = slot.find(table["part"])
    except UnknownPart as error:
        raise UnknownPart(f"{where}: {error}") from None
    return part, {key: item for key, item in table.items() if key != "part"}


def _tuple(kind: Any, table: Any, where: str, default: Any) -> tuple[Any, ...]:
    kinds = get_args(kind)
    if not isinstance(table, (list, tuple)):
        raise ConfigError(f"{where}: expected a list, got {type(table).__name__} {brief(table)}.")
    if kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(table)
    if len(kinds) != len(table):
        raise ConfigError(f"{where}: expected {len(kinds)} values such as {default!r}, got {brief(table)}.")
    return tuple(
        from_table(kind, item, f"{where}[{index}]") for index, (kind, item) in enumerate(zip(kinds, table, strict=True))
    )


def _scalar(kind: Any, item: Any, where: str, default: Any) -> Any:
    if kind is float and type(item) is int and abs(item) < INT_LIMIT:
        item = float(item)
    if type(item) is not kind:
        example = f" such as {default!r}" if type(default) is kind and default != "" else ""
        raise ConfigError(f"{where}: expected {kind.__name__}{example}, got {type(item).__name__} {brief(item)}.")
    if kind is str and not item.isascii():
        try:
            item.encode("utf-8")
        except UnicodeEncodeError:
            raise ConfigError(f"{where}: expected text in UTF-8, got {item!a:.80}.") from None
    if kind is float and not math.isfinite(item):
        raise ConfigError(f"{where}: expected a finite number, got {item!r}.")
    return item


def join_path(where: str, key: str) -> str:
    """Return the dotted path of a key in a table."""
    return f"{where}.{key}" if where else key
