"""A tokenizer's file: one JSON object with a header of ours and the table of its part.

A list is written one item a line, everything else one key a line, so that a change can be read in a diff.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from reprlib import repr as brief
from typing import Any

from nanotx.errors import TokenizerError
from nanotx.files import publish

VERSION = 1
LARGEST = 1 << 24  # bytes; a stranger's file must not fill the memory

Table = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a tokenizer was learned: a record for people, and no part of what the tokenizer is."""

    corpus: str
    sha256: str  # of the whole corpus, in UTF-8
    command: str  # makes the file again


def exactly(where: str, table: Table, kinds: dict[str, type]) -> None:
    """Check that a table has these keys, no others, and a value of the given type under each.

    Raises:
        TokenizerError: it has not; says which key.
    """
    for key in table.keys() - kinds.keys():
        raise TokenizerError(f"{where}: {brief(key)} is no key here; expected {', '.join(kinds) or 'none'}.")
    for key, kind in kinds.items():
        if key not in table:
            raise TokenizerError(f"{where}: the key {key!r} is missing; expected {kind.__name__}.")
        if type(table[key]) is not kind:
            raise TokenizerError(f"{where}: {key}: expected {kind.__name__}, got {brief(table[key])}.")


def write_file(path: Path, part: str, table: Table, origin: Origin | None) -> None:
    """Write a tokenizer's file under a draft's name, then rename it.

    Raises:
        TokenizerError: it cannot be written there.
    """
    header: Table = {"nanotx": "tokenizer", "version": VERSION, "part": part}
    if origin is not None:
        header["learned_from"] = asdict(origin)
    try:
        publish(path, _lay_out(header | table))
    except OSError as error:
        raise TokenizerError(f"{path}: no tokenizer can be written here: {error.strerror}.") from None


def read_file(path: Path) -> tuple[str, Table, Origin | None]:
    """The name of a tokenizer's part, the table it is read from, and its origin.

    Raises:
        FileNotFoundError: there is none.
        TokenizerError: it cannot be read, or it is not one of ours; says which.
    """
    table = _parse(path)
    if not isinstance(table, dict) or table.pop("nanotx", None) != "tokenizer":
        raise TokenizerError(f'{path}: expected a tokenizer that nanotx saved ("nanotx": "tokenizer").')
    version, part = table.pop("version", None), table.pop("part", None)
    if type(version) is not int or version != VERSION:
        raise TokenizerError(f"{path}: format version {brief(version)}; this nanotx reads {VERSION}.")
    if not isinstance(part, str):
        raise TokenizerError(f"{path}: part: expected the name of a tokenizer, got {brief(part)}.")
    if "learned_from" not in table:
        return part, table, None
    origin = table.pop("learned_from")
    if not isinstance(origin, dict):
        raise TokenizerError(f"{path}: learned_from: expected a table, got {brief(origin)}.")
    exactly(f"{path}: learned_from", origin, {"corpus": str, "sha256": str, "command": str})
    return part, table, Origin(corpus=origin["corpus"], sha256=origin["sha256"], command=origin["command"])


def _parse(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise TokenizerError(f"{path}: this is larger than {LARGEST} bytes; no tokenizer of ours is.")
        return json.loads(data.decode("utf-8"))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise TokenizerError(f"{path}: no tokenizer can be read here: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise TokenizerError(f"{path}: this is not a tokenizer in JSON: {error}.") from None


def _lay_out(table: Table) -> str:
    rows = []
    for key, value in table.items():
        if isinstance(value, list) and value:
            text = "[\n  " + ",\n  ".join(map(_plain, value)) + "\n ]"
        else:
            text = _plain(value)
        rows.append(f" {_plain(key)}: {text}")
    return "{\n" + ",\n".join(rows) + "\n}\n"


def _plain(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
