"""A config is a value: frozen dataclasses, read from plain tables strictly, and written back equal.

Layers (a recipe's defaults, TOML files, flags) are merged as tables and built once, whole.
"""

import dataclasses
import math
import re
import tomllib
import types
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import tomli_w

from nanotx.errors import ConfigError, UnknownPart, did_you_mean
from nanotx.registry import Slot

Table = dict[str, Any]
T = TypeVar("T")


# Ranges: what a config knows by itself, said in its __post_init__.


def at_least(config: object, low: int | float, *names: str) -> None:
    """Raise ConfigError unless each of the named fields is a number of at least `low` (or None)."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not (math.isfinite(value) and value >= low):
            raise ConfigError(f"{name}: expected a number of at least {low:g}, got {value!r}.")


def share(config: object, *names: str) -> None:
    """Raise ConfigError unless each of the named fields lies in [0, 1)."""
    for name in names:
        value = getattr(config, name)
        if not 0 <= value < 1:
            raise ConfigError(f"{name}: expected a share from 0 up to but not including 1, got {value!r}.")


# Values to tables and back.


@cache
def fields(kind: type) -> dict[str, Any]:
    """A config's fields and their types, in the order they are written."""
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def is_slot(kind: Any) -> bool:
    """Whether a type is a slot, which any of several parts may fill."""
    return isinstance(kind, type) and issubclass(kind, Slot)


def inner(kind: Any) -> Any:
    """A type without its `| None`."""
    if get_origin(kind) in (Union, types.UnionType):
        return next(option for option in get_args(kind) if option is not type(None))
    return kind


def to_table(value: Any) -> Any:
    """A config as a plain table: a part names itself under `part`; a field that is None is left out."""
    if dataclasses.is_dataclass(value):
        table = {"part": value.part} if isinstance(value, Slot) else {}
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
    optional, kind = inner(kind) is not kind, inner(kind)
    if optional and table is None:
        return None
    if get_origin(kind) is Literal:
        if table not in get_args(kind):
            known = ", ".join(map(repr, get_args(kind)))
            near = did_you_mean(str(table), map(str, get_args(kind)))
            raise ConfigError(f"{where}: expected one of {known}, got {table!r}.{near}")
        return table
    if get_origin(kind) is tuple:
        return _tuple(kind, table, where, default)
    if is_slot(kind):
        part, table = _part(kind, table, where)
        return _build(part, table, where)
    if dataclasses.is_dataclass(kind):
        return _build(kind, table, where)
    return _scalar(kind, table, where, default)


def _build(kind: Any, table: Any, where: str) -> Any:
    if not isinstance(table, dict):
        raise ConfigError(f"{where}: expected a table, got {type(table).__name__} {table!r}.")
    known = fields(kind)
    values = {}
    for key, item in table.items():
        if key not in known:
            has = f"It has: {', '.join(sorted(known))}." if known else "It has none."
            near = did_you_mean(key, known)
            raise ConfigError(f"{_join(where, key)}: {kind.__name__} has no such field.{near} {has}")
        default = kind.__dataclass_fields__[key].default
        values[key] = from_table(known[key], item, _join(where, key), default)
    try:
        return kind(**values)
    except ConfigError as error:
        field = re.match(r"(\w+): ", str(error))
        joint = "." if field and field[1] in known else ": "
        raise ConfigError(f"{where}{joint}{error}" if where else str(error)) from None


def _part(slot: Any, table: Any, where: str) -> tuple[Any, Table]:
    if isinstance(table, str):
        table = slot.table(table)
    if not isinstance(table, dict) or not isinstance(table.get("part"), str):
        raise ConfigError(
            f'{where}: expected the name of a part such as "{slot.names()[0]}", or a table with `part`, '
            f"got {type(table).__name__} {table!r}."
        )
    try:
        part = slot.find(table["part"])
    except UnknownPart as error:
        raise UnknownPart(f"{where}: {error}") from None
    return part, {key: item for key, item in table.items() if key != "part"}


def _tuple(kind: Any, table: Any, where: str, default: Any) -> tuple[Any, ...]:
    kinds = get_args(kind)
    if not isinstance(table, (list, tuple)):
        raise ConfigError(f"{where}: expected a list, got {type(table).__name__} {table!r}.")
    if kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(table)
    if len(kinds) != len(table):
        raise ConfigError(f"{where}: expected {len(kinds)} values such as {default!r}, got {table!r}.")
    return tuple(
        from_table(one, item, f"{where}[{index}]")
        for index, (one, item) in enumerate(zip(kinds, table, strict=True))
    )


def _scalar(kind: Any, item: Any, where: str, default: Any) -> Any:
    if kind is float and type(item) is int:
        item = float(item)
    if type(item) is not kind:
        example = f" such as {default!r}" if type(default) is kind and default != "" else ""
        raise ConfigError(f"{where}: expected {kind.__name__}{example}, got {type(item).__name__} {item!r}.")
    if kind is float and not math.isfinite(item):
        raise ConfigError(f"{where}: expected a finite number, got {item!r}.")
    return item


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


# Layers.


def merge(kind: Any, base: Table, over: Table, where: str = "") -> Table:
    """The table `over` laid on `base`, both tables of a config of type `kind`.

    Where a slot gets another part, the fields that the two share by name and type keep their values and the
    others take the new part's defaults. A list replaces a list. A field named in `over` that excludes one of
    `base` (`blocks` and `block`) is told by the config's `excludes`.
    """
    known = fields(kind)
    merged = dict(base)
    for key, item in over.items():
        field, at = inner(known.get(key)), _join(where, key)
        for rival in getattr(kind, "excludes", {}).get(key, ()):
            if rival not in over:
                merged.pop(rival, None)
        if is_slot(field):
            merged[key] = merge_part(field, base.get(key), item, at)
        elif dataclasses.is_dataclass(field) and isinstance(item, dict):
            merged[key] = merge(field, base.get(key, {}), item, at)
        else:
            merged[key] = item
    return merged


def merge_part(slot: Any, base: Any, over: Any, where: str) -> Any:
    """As `merge`, for the value of one slot: a name, or a table that may leave `part` out to keep it."""
    if isinstance(over, dict) and "part" not in over and base is not None:
        over = {"part": _part(slot, base, where)[0].part, **over}
    new, changes = _part(slot, over, where)
    if base is None:
        return {"part": new.part, **changes}
    old, kept = _part(slot, base, where)
    if new is not old:
        kept = {key: item for key, item in kept.items() if fields(new).get(key) == fields(old).get(key)}
    return {"part": new.part, **merge(new, kept, changes, where)}


# TOML.


def read_toml(path: Path) -> Table:
    """The table of a TOML file.

    Raises:
        ConfigError: the file is missing, is no text, or is no TOML; says which and where.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: expected UTF-8, got byte 0x{error.object[error.start]:02x} at offset {error.start}."
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: this is not TOML: {error}.") from None


def write_toml(config: Any) -> str:
    """A config as TOML that `read_toml` and `from_table` turn back into an equal value."""
    return tomli_w.dumps(to_table(config))
