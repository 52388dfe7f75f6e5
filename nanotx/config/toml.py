"""Recipes as TOML: tables merged layer by layer (defaults, files, flags) and built once; untrusted files, bounded.

The parser of Python is strict. What it does not bound is bounded here: its time (quadratic in the parts of a dotted
key), the depth of tables, and the digits of a whole number.
"""

import dataclasses
import tomllib
from pathlib import Path
from typing import Any

import tomli_w

from nanotx.config.schema import Table, fields, from_table, is_slot, join_path, part_of, to_table, without_none
from nanotx.errors import ConfigError
from nanotx.files import open_regular, similar_file


def merge(kind: Any, base: Table, over: Table, where: str = "") -> Table:
    """Return the table `base` with the values of `over`, both tables of a config of type `kind`.

    Where a slot gets another part, the fields that the two share by name and type keep their values and the
    others take the new part's defaults. A list replaces a list. A field named in `over` that excludes one of
    `base` (`blocks` and `block`) is given by the config's `excludes`.
    """
    known = fields(kind)
    merged = dict(base)
    for key, item in over.items():
        field, at = without_none(known.get(key)), join_path(where, key)
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
    """Merge the values of one slot: a name, or a table, which keeps the part where it has no `part`."""
    if isinstance(over, dict) and "part" not in over and base is not None:
        over = {"part": part_of(slot, base, where)[0].part, **over}
    new, changes = part_of(slot, over, where)
    if base is None:
        return {"part": new.part, **changes}
    old, values = part_of(slot, base, where)
    if new is not old:
        same = {key for key, kind in fields(old).items() if fields(new).get(key) == kind} - {*new.part_specific}
        values = {key: item for key, item in values.items() if key in same}
    return {"part": new.part, **merge(new, values, changes, where)}


def read_toml(path: Path) -> Table:
    """Return the table of a TOML file.

    Raises:
        ConfigError: the file is missing, is not text, or is not TOML; the message names the place.
    """
    return read(path)


def read_config(kind: Any, path: Path) -> Any:
    """Return the config of type `kind` that a TOML file defines.

    Raises:
        ConfigError: the file cannot be read, or is not such a config; the message names file and place.
    """
    table = read_toml(path)
    try:
        return from_table(kind, table)
    except ConfigError as error:
        raise type(error)(f"{path}: {error}") from None


def write_toml(config: Any) -> str:
    """Return a config as TOML, which `read_toml` and `from_table` read back as an equal value."""
    return tomli_w.dumps(to_table(config))


MAX_BYTES = 1 << 17  # bytes; the longest recipes have a few thousand
MAX_DOTS = 256  # in a line
MAX_DEPTH = 32  # tables and lists in one another


def read(path: Path) -> dict[str, Any]:
    """Return the table of a TOML file.

    Raises:
        ConfigError: the file is missing, is not text, is not TOML, or exceeds the bounds of a recipe.
    """
    try:
        table = tomllib.loads(read_text(path))
        check_bounds(table)
    except FileNotFoundError:
        hint = similar_file(path) or (
            "" if path.suffix else " Parts and fields are named by flags, as in --attention gqa."
        )
        raise ConfigError(f"{path}: there is no such file.{hint}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: expected UTF-8, got byte 0x{error.object[error.start]:02x} at offset {error.start}."
        ) from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: this is not TOML: {error}.") from None
    except ValueError as error:  # from `check_bounds`, or a limit of Python
        raise ConfigError(f"{path}: {error}") from None
    return table


def read_text(path: Path) -> str:
    """Return the text of a regular file, with line ends normalised to newlines."""
    with open_regular(path) as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES or max(line.count(b".") for line in data.split(b"\n")) > MAX_DOTS:
        raise ConfigError(f"expected at most {MAX_BYTES:,} bytes, and {MAX_DOTS} dots in a line; this is not a recipe.")
    return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")


def check_bounds(table: dict[str, Any]) -> None:
    """Raise ConfigError where a table is deeper than any recipe, or a whole number exceeds 64 bits."""
    items: list[tuple[str, Any, int]] = [("", table, 0)]
    for where, item, depth in items:  # grows during the loop, so that no depth reaches the recursion limit
        if depth > MAX_DEPTH:
            raise ConfigError(f"{where[1:40]}...: expected at most {MAX_DEPTH} tables in one another, got more.")
        if isinstance(item, dict):
            items += [(f"{where}.{key}", value, depth + 1) for key, value in item.items()]
        elif isinstance(item, list):
            items += [(f"{where}[{index}]", value, depth + 1) for index, value in enumerate(item)]
        elif isinstance(item, int) and item.bit_length() > 63:
            raise ConfigError(f"{where[1:]}: expected a whole number of 64 bits, got one of {item.bit_length() + 1}.")
