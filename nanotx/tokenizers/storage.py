"""A tokenizer's file: one JSON object with a header of ours and the table of its part.

The versions that it was made with are recorded, because versions of Unicode may classify letters differently; they are
not checked. A list has one item per line, everything else one key per line, so that a diff shows each change.
"""

import hashlib
import json
import unicodedata
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from reprlib import repr as brief
from typing import Any, get_args, get_origin

from nanotx import __version__
from nanotx.errors import TokenizerError
from nanotx.files import write_atomic

VERSION = 3

Table = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Origin:
    """A record of how a tokenizer was trained; it takes no part in its digest."""

    corpus: str
    sha256: str  # of the whole corpus, in UTF-8
    command: str  # makes the file again


def exactly(where: str, table: Table, kinds: dict[str, Any]) -> None:
    """Check that a table has these keys, no others, and a value of the given type under each.

    A type may say what a list or a table holds: `list[int]`, `dict[str, int]`.

    Raises:
        TokenizerError: it has not; says which key.
    """
    for key in table.keys() - kinds.keys():
        raise TokenizerError(f"{where}: {brief(key)} is no key here; expected {', '.join(kinds) or 'none'}.")
    for key, kind in kinds.items():
        if key not in table:
            raise TokenizerError(f"{where}: the key {key!r} is missing; expected {_named(kind)}.")
        value, whole = table[key], get_origin(kind) or kind
        inside = value.values() if whole is dict and type(value) is dict else value
        if type(value) is not whole or not (whole is kind or all(type(item) is get_args(kind)[-1] for item in inside)):
            raise TokenizerError(f"{where}: {key}: expected {_named(kind)}, got {brief(value)}.")


def _named(kind: Any) -> str:
    return str(kind) if get_origin(kind) else str(kind.__name__)


def digest(part: str, table: Table) -> str:
    """SHA-256 of a part's name and its table, whatever the order of the keys and the layout of the file.

    Raises:
        ValueError: a number in the table is NaN or infinity, which JSON does not have.
    """
    whole = json.dumps([part, table], sort_keys=True, allow_nan=False)
    return hashlib.sha256(whole.encode("ascii")).hexdigest()


def text_of(part: str, table: Table, origin: Origin | None) -> str:
    """Return the text of a tokenizer's file."""
    header: Table = {"nanotx": "tokenizer", "version": VERSION, "part": part, "sha256": digest(part, table)}
    header["made_with"] = {"nanotx": __version__, "regex": version("regex"), "unicode": unicodedata.unidata_version}
    if origin is not None:
        header["learned_from"] = asdict(origin)
    return _lay_out(header | table)


def write_file(path: Path, text: str) -> None:
    """Write a tokenizer's file under a draft's name, then rename it.

    Raises:
        TokenizerError: it cannot be written there.
    """
    if path.is_dir():
        raise TokenizerError(f"{path}: no tokenizer can be written here: Is a directory.")
    try:
        write_atomic(path, text)
    except OSError as error:
        raise TokenizerError(f"{path}: no tokenizer can be written here: {error.strerror}.") from None


def _lay_out(table: Table) -> str:
    return "{\n" + ",\n".join(f" {_plain(key)}: {_value(value)}" for key, value in table.items()) + "\n}\n"


def _value(value: Any) -> str:
    if not isinstance(value, list) or not value:
        return _plain(value)
    return "[\n  " + ",\n  ".join(_items(value)) + "\n ]"


def _items(values: list[Any]) -> Iterator[str]:
    """Return items as JSON; numbers and pairs of them, of which there may be very many, as Python writes them too."""
    if all(type(item) is int for item in chain.from_iterable(v if type(v) is list else (v,) for v in values)):
        return map(repr, values)
    return map(_plain, values)


_plain = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
