"""Layers of a recipe (its defaults, TOML files, flags): plain tables, merged, and built once, whole."""

import dataclasses
from pathlib import Path
from typing import Any

import tomli_w

from nanotx.config import Table, fields, from_table, inner, is_slot, join, part_of, to_table
from nanotx.errors import ConfigError


def merge(kind: Any, base: Table, over: Table, where: str = "") -> Table:
    """The table `over` laid on `base`, both tables of a config of type `kind`.

    Where a slot gets another part, the fields that the two share by name and type keep their values and the
    others take the new part's defaults. A list replaces a list. A field named in `over` that excludes one of
    `base` (`blocks` and `block`) is told by the config's `excludes`.
    """
    known = fields(kind)
    merged = dict(base)
    for key, item in over.items():
        field, at = inner(known.get(key)), join(where, key)
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
        over = {"part": part_of(slot, base, where)[0].part, **over}
    new, changes = part_of(slot, over, where)
    if base is None:
        return {"part": new.part, **changes}
    old, kept = part_of(slot, base, where)
    if new is not old:
        kept = {key: item for key, item in kept.items() if fields(new).get(key) == fields(old).get(key)}
    return {"part": new.part, **merge(new, kept, changes, where)}


def read_toml(path: Path) -> Table:
    """The table of a TOML file.

    Raises:
        ConfigError: the file is missing, is no text, or is no TOML; says which and where.
    """
    from nanotx.toml_file import read  # many runs read none

    return read(path)


def read_config(kind: Any, path: Path) -> Any:
    """The config of type `kind` that a TOML file holds whole.

    Raises:
        ConfigError: it cannot be read, or holds no such config; says which file and where in it.
    """
    table = read_toml(path)
    try:
        return from_table(kind, table)
    except ConfigError as error:
        raise type(error)(f"{path}: {error}") from None


def write_toml(config: Any) -> str:
    """A config as TOML that `read_toml` and `from_table` turn back into an equal value."""
    return tomli_w.dumps(to_table(config))
