"""Texts in files of any size, read in blocks that end where a tokenizer may be cut.

A *cut* is the place between an ASCII letter and the space or new line behind it: a tokenizer with `cuts` gives
the two sides, encoded one by one, the ids of the whole.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from nanotx.errors import DataError

BLOCK = 1 << 22  # bytes read at once
CUT = re.compile(rb"[A-Za-z](?=[ \n])")


def files_of(names: Iterable[str | Path]) -> list[Path]:
    """The files that are meant: each as it is, and of a folder all in it, to its depths, but for what is hidden.

    Raises:
        DataError: there is no such file, or none in the folder.
    """
    found: list[Path] = []
    for name in map(Path, names):
        inside = [name]
        if name.is_dir():
            below = {file: file.relative_to(name).parts for file in name.rglob("*") if file.is_file()}
            seen = [file for file, parts in below.items() if not any(part.startswith(".") for part in parts)]
            inside = sorted(seen, key=below.__getitem__)
        elif not name.exists():
            raise DataError(f"{name}: cannot be read: there is no such file or folder.")
        if not inside:
            raise DataError(f"{name}: this folder holds no file that is not hidden.")
        found += inside
    return found


def blocks(path: Path, *, cuts: bool = True, errors: str = "strict", start: int = 0) -> Iterator[tuple[str, int]]:
    """The text of a file in blocks, each with the offset in bytes of what follows it.

    Args:
        path: the file.
        cuts: end a block at any cut; otherwise the file is one block, however large.
        errors: "strict", or "replace" to read U+FFFD where there is no UTF-8.
        start: an offset that came with a block.

    Raises:
        DataError: it cannot be read, or is not UTF-8; says at which offset.
    """
    try:
        with path.open("rb") as file:
            file.seek(start)
            held = b""
            while data := file.read(BLOCK if cuts else -1):
                held += data
                end = _last_cut(held, len(held) - len(data)) if cuts else len(held)
                if end:
                    yield decoded(held[:end], str(path), errors, start), start + end
                    held, start = held[end:], start + end
            if held:
                yield decoded(held, str(path), errors, start), start + len(held)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}.") from None


def _last_cut(data: bytes, fresh: int) -> int:
    """Where the last cut is among what was read last, looked for from the end in ever larger steps; 0: nowhere."""
    step = 1 << 10
    while True:
        low = max(len(data) - step, fresh - 1, 0)
        found = [match.end() for match in CUT.finditer(data, low)]
        if found or low <= max(fresh - 1, 0):
            return found[-1] if found else 0
        step *= 8


def decoded(data: bytes, where: str, errors: str = "strict", offset: int = 0) -> str:
    """Bytes as text.

    Args:
        data: the bytes,
        where: and whose they are,
        errors: see `blocks`.
        offset: of the first byte.

    Raises:
        DataError: they are not UTF-8; says at which offset.
    """
    try:
        return data.decode("utf-8", errors)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where}: expected UTF-8, got byte 0x{data[error.start]:02x} at offset {offset + error.start}; "
            "save it as UTF-8, or read U+FFFD there with --errors replace."
        ) from None
