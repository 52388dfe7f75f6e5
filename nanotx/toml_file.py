"""A file of TOML, which anyone may have written: it is read whole or refused, and never for long.

Python's own reader of TOML is strict. What it does not bound is bounded here: how long it takes (with the square of the
parts of a dotted key), how deep tables nest, and how many digits a whole number has.
"""

import tomllib
from pathlib import Path
from typing import Any

from nanotx.errors import ConfigError
from nanotx.files import open_plain

LARGEST = 1 << 17  # bytes; the longest recipes have some thousands
DOTS = 256  # in a line
DEEPEST = 32  # tables and lists in one another


def read(path: Path) -> dict[str, Any]:
    """The table of a TOML file.

    Raises:
        ConfigError: the file is missing, is no text, is no TOML, or is no recipe's; says which and where.
    """
    try:
        table = tomllib.loads(text_of(path))
        check(table)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: expected UTF-8, got byte 0x{error.object[error.start]:02x} at offset {error.start}."
        ) from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: this is not TOML: {error}.") from None
    except ValueError as error:  # ours, or one of Python's own limits
        raise ConfigError(f"{path}: {error}") from None
    return table


def text_of(path: Path) -> str:
    """The text of a plain file, its line ends made alike."""
    with open_plain(path) as file:
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST or max(line.count(b".") for line in data.split(b"\n")) > DOTS:
        raise ConfigError(f"expected at most {LARGEST:,} bytes, and {DOTS} dots in a line; this is no recipe.")
    return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")


def check(table: dict[str, Any]) -> None:
    """Raise ConfigError where a table is deeper than any recipe, or a whole number longer than TOML's are."""
    found: list[tuple[str, Any, int]] = [("", table, 0)]
    for where, item, depth in found:  # grows while it is walked, so that no depth ends at Python's own limit
        if depth > DEEPEST:
            raise ConfigError(f"{where[1:40]}...: expected at most {DEEPEST} tables in one another, got more.")
        if isinstance(item, dict):
            found += [(f"{where}.{key}", one, depth + 1) for key, one in item.items()]
        elif isinstance(item, list):
            found += [(f"{where}[{index}]", one, depth + 1) for index, one in enumerate(item)]
        elif isinstance(item, int) and item.bit_length() > 63:
            raise ConfigError(f"{where[1:]}: expected a whole number of 64 bits, got one of {item.bit_length() + 1}.")
