"""Find text files, and read files of any size in blocks that end at a cut.

All files of a folder are read, recursively and through links, except hidden ones and the folders of runs: the output of
a run is never training text. A file that cannot be read is an error; it is never skipped. A byte-order mark at the
beginning of a text is dropped, whatever its source.

A *cut* is the place between an ASCII letter and the space or newline after it: with a tokenizer that is `splittable`,
the ids of the two sides, encoded separately, are those of the whole.
"""

import fnmatch
import glob
import re
from collections.abc import Iterable, Iterator
from io import BufferedIOBase
from pathlib import Path

from nanotx.data.compressed import opened
from nanotx.errors import DataError
from nanotx.files import open_regular, read_regular, similar_file

MARK = "\ufeff"
"""The byte-order mark, which is not part of the text."""

REPLACE = "or read U+FFFD there with --errors replace"
"""Second remedy in messages about invalid UTF-8, for commands with this flag."""

WRITTEN = {"tokenizer.json", "metrics.jsonl", "checkpoints", "summary.json"}
"""Files that a run writes next to its recipe.toml."""

BLOCK = 1 << 22  # bytes read at once
CUT = re.compile(rb"[A-Za-z](?=[ \n])")


def files_of(names: Iterable[str | Path]) -> list[Path]:
    """Return the given files, and for a folder all files in it that are neither hidden nor of a run.

    Raises:
        DataError: there is no such file, the folder holds none, or part of it cannot be read.
    """
    files: list[Path] = []
    for name in map(Path, names):
        inside = [name]
        if name.is_dir():
            inside = files_in(name)
        elif not name.exists():
            raise DataError(f"{name}: cannot be read: there is no such file or folder.")
        files += inside
    return files


def files_named(where: str, path: str) -> list[Path]:
    """Return the file of a path, the files of a folder, or those that match a glob.

    Args:
        where: begins every message.
        path: of a file or a folder, or a glob.

    Raises:
        DataError: there is no such file, or a folder cannot be read.
    """
    place = Path(path)
    try:
        if place.is_file():
            return [place]
        if place.is_dir():
            return files_in(place)
        if place.exists() or "\0" in path:
            raise DataError(f"{path!r}: expected a file or a folder, got a pipe or a device.")
        if not glob.has_magic(path):
            hint = " Download it first, and name the file." if "://" in path else similar_file(place)
            raise DataError(f"{path}: there is no such file or folder.{hint}")
        if files := files_like(path):
            return files
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    except OSError as error:
        raise DataError(f"{where}: {error.filename or path}: cannot be read: {error.strerror}.") from None
    raise DataError(
        f"{where}: {path}: no file matches; try a shorter pattern. Hidden files and the folders of runs are left out."
    )


def files_in(folder: Path) -> list[Path]:
    """Return the files of a folder, recursively and in the order of names, that are neither hidden nor of a run.

    Raises:
        DataError: there is none, or part of the folder cannot be read.
    """
    files = sorted(readable(matching(folder, ["**"])), key=lambda path: path.relative_to(folder).parts)
    if not files:
        if is_run(folder):
            raise DataError(f"{folder}: this folder is a run, whose files are never read as text.")
        raise DataError(f"{folder}: this folder holds no text; hidden files and the folders of runs are left out.")
    return files


def files_like(pattern: str) -> list[Path]:
    """Return the files that match a glob, in the order of their paths; `**` is any number of folders.

    Raises:
        DataError: a folder on the search path cannot be read.
    """
    parts = Path(pattern).parts
    fixed = next((index for index, part in enumerate(parts) if MAGIC.search(part)), len(parts))
    return sorted(set(readable(matching(Path(*parts[:fixed]), list(parts[fixed:])))))


def readable(paths: Iterator[Path]) -> list[Path]:
    """Return the paths; raise DataError for one that the system refuses to read."""
    try:
        return list(paths)
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read: {error.strerror}.") from None


MAGIC = re.compile(r"[*?\[]")


def matching(folder: Path, parts: list[str], above: tuple[tuple[int, int], ...] = ()) -> Iterator[Path]:
    """Yield the files in a folder whose relative paths match the parts of a pattern, as `glob.glob` interprets them.

    Args:
        folder: where to search; the folder of a run has no such files.
        parts: of the pattern; `**` is any number of folders and, at the end, all that is in them.
        above: the folders that lead here, by device and inode, to detect cyclic links.

    Raises:
        DataError: a folder cannot be read, a link is dangling or cyclic, or an entry is not a regular file.
    """
    if not parts or is_run(folder):
        return
    part, rest = parts[0], parts[1:]
    if part == "**" and rest:
        yield from matching(folder, rest, above)
    above = above or (number(folder),) if folder.is_dir() else above
    for path in listed(folder) if MAGIC.search(part) else [folder / part]:
        hidden = path.name.startswith(".") and not part.startswith(".")
        if hidden or not (part == "**" or part == path.name or fnmatch.fnmatch(path.name, part)):
            continue
        if path.is_dir():
            here = number(path)
            leads_up = path.is_symlink() and folder.resolve().is_relative_to(path.resolve())
            if here in above or leads_up:
                raise DataError(f"{path}: cannot be read: this link leads to a folder that contains it; remove it.")
            yield from matching(path, parts if part == "**" else rest, (*above, here))
        elif part == "**" and rest:
            continue  # the parts after `**` were already matched in this folder
        elif not rest and (MAGIC.search(part) or path.exists()):
            check_file(path)
            yield path


def number(folder: Path) -> tuple[int, int]:
    """Return the identity of a folder, whatever the path to it."""
    stat = folder.stat()
    return stat.st_dev, stat.st_ino


def listed(folder: Path) -> list[Path]:
    """Return the entries of a folder, in the order of the names; none if there is no such folder.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise DataError(
            f"{folder}: this folder cannot be read: {error.strerror}; change its permissions, or select files "
            "with a glob such as 'texts/*.txt'."
        ) from None


def check_file(path: Path) -> None:
    """Raise DataError unless a path is a regular file."""
    if path.is_file():
        return
    what = "a dangling link" if path.is_symlink() and not path.exists() else "a pipe, a socket or a device"
    raise DataError(f"{path}: expected a file or a folder, got {what}; remove it, or select files with a glob.")


def is_run(folder: Path) -> bool:
    """Return whether a folder is a run of nanotx, even one that was killed at its start."""
    names = {path.name for path in listed(folder) if not path.name.startswith(".")}
    return "recipe.toml" in names and (names == {"recipe.toml"} or not names.isdisjoint(WRITTEN))


def blocks(
    path: Path, *, splittable: bool = True, errors: str = "strict", start: int = 0, remedy: str = ""
) -> Iterator[tuple[str, int]]:
    """Yield the text of a file in blocks, each with the offset in bytes of what follows it.

    Args:
        path: the file.
        splittable: end a block at any cut; otherwise the file is one block, however large.
        errors: "strict", or "replace" to read U+FFFD in place of invalid UTF-8.
        start: an offset that was yielded with a block.
        remedy: see `decoded`.

    Raises:
        DataError: it cannot be read, or is not UTF-8; the message gives the offset.
    """
    try:
        with open_regular(path) as file:
            file.seek(start)
            yield from text_blocks(file, str(path), splittable=splittable, errors=errors, start=start, remedy=remedy)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}.") from None


def text_blocks(
    file: BufferedIOBase,
    where: str,
    *,
    splittable: bool = True,
    errors: str = "strict",
    start: int = 0,
    remedy: str = "",
    most: int | None = None,
) -> Iterator[tuple[str, int]]:
    """Yield the text of an open file in blocks; see `blocks`.

    Args:
        file: read from its place on.
        where: its path, for messages.
        splittable: see `blocks`.
        errors: see `blocks`.
        start: the offset of its place.
        remedy: see `decoded`.
        most: the largest size in bytes of a block that has no place to split it.

    Raises:
        DataError: it is not UTF-8, or a block is too large.
    """
    at_once = BLOCK if splittable else -1 if most is None else most + 1
    held, searched = [b""], b""
    while data := file.read(at_once):
        held.append(data)
        size = sum(map(len, held))
        end = _last_cut(searched + data, len(searched)) if splittable else 0
        if end:
            whole = b"".join(held)
            end += size - len(searched) - len(data)
            if text := decoded(whole[:end], where, errors, start, remedy):
                yield text, start + end
            held, start = [whole[end:]], start + end
        elif most is not None and size > most:
            raise DataError(
                f"{where}: from offset {start:,} on, {size >> 20} MiB have no place where this tokenizer may split "
                "them; put the text into a .jsonl file, a document in each row."
            )
        searched = held[-1][-1:]
    if (rest := b"".join(held)) and (text := decoded(rest, where, errors, start, remedy)):
        yield text, start + len(rest)


def _last_cut(data: bytes, fresh: int) -> int:
    """Return the last position at which the text may be split, searched from the end in growing steps; 0 if none."""
    step = 1 << 10
    while True:
        low = max(len(data) - step, fresh - 1, 0)
        cuts = [match.end() for match in CUT.finditer(data, low)]
        if cuts or low <= max(fresh - 1, 0):
            return cuts[-1] if cuts else 0
        step *= 8


def decoded(data: bytes, where: str, errors: str = "strict", offset: int = 0, remedy: str = "") -> str:
    """Decode bytes as UTF-8; a byte-order mark at the beginning of the text is dropped.

    Args:
        data: the bytes.
        where: their source, such as a path, for messages.
        errors: see `blocks`.
        offset: of the first byte in the file.
        remedy: an alternative to saving the text as UTF-8, for the message.

    Raises:
        DataError: they are not UTF-8; the message gives the offset and the line.
    """
    try:
        text = data.decode("utf-8", errors)
    except UnicodeDecodeError as error:
        before = data[: error.start] if not offset else _head(where, offset) + data[: error.start]
        utf16 = data.startswith((b"\xff\xfe", b"\xfe\xff")) and not offset
        raise DataError(
            f"{where}: expected UTF-8, got byte 0x{data[error.start]:02x} at offset {offset + error.start}; "
            f"save it as UTF-8{', ' * bool(remedy)}{remedy}. The byte is in line {before.count(10) + 1:,}"
            f"{', and the file looks like UTF-16' if utf16 else ''}."
        ) from None
    return text if offset else text.removeprefix(MARK)


def _head(where: str, size: int) -> bytes:
    """Return the beginning of a file; it is read again only for an error that names a line."""
    with opened(Path(where)) as (stream, _):
        return stream.read(size)


def read_text(path: Path, remedy: str = "", errors: str = "strict") -> str:
    """Return the text of a file.

    Raises:
        DataError: it cannot be read, or is not UTF-8; the message gives the line.
    """
    try:
        data = read_regular(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}.") from None
    return decoded(data, str(path), errors, remedy=remedy)
