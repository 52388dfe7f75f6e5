"""Opening a tokenizer's file, which anyone may have written: its size, its form and its digest come first."""

import json
from pathlib import Path
from reprlib import repr as brief
from typing import Any

from nanotx.errors import TokenizerError
from nanotx.files import open_plain
from nanotx.tokenizers._storage import VERSION, Origin, Table, digest, exactly

LARGEST = 1 << 24  # bytes; a stranger's file must not fill the memory


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
    said, origin, _ = (table.pop(key, None) for key in ("sha256", "learned_from", "made_with"))
    try:
        found = digest(part, table)
    except RecursionError:
        raise TokenizerError(f"{path}: tables in tables without end; no tokenizer of ours is.") from None
    except ValueError:
        raise TokenizerError(
            f"{path}: a number in it is NaN or infinity; no tokenizer that nanotx saves has one."
        ) from None
    if said != found:
        raise TokenizerError(
            f"{path}: the digest does not fit: the file says sha256 {brief(said)}, and holds {found}; it was edited or "
            "damaged since it was saved. Try an earlier copy, or train it again."
        )
    if origin is None:
        return part, table, None
    if not isinstance(origin, dict):
        raise TokenizerError(f"{path}: learned_from: expected a table, got {brief(origin)}.")
    exactly(f"{path}: learned_from", origin, {"corpus": str, "sha256": str, "command": str})
    return part, table, Origin(corpus=origin["corpus"], sha256=origin["sha256"], command=origin["command"])


def _parse(path: Path) -> Any:
    try:
        with open_plain(path) as file:
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
