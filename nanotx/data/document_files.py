"""Read documents out of files of several formats: text, JSON lines and Parquet, plain or compressed.

A text file is one document. Each row of a `.jsonl` (or `.ndjson`) and of a `.parquet` file is one: the text of a named
field. `.gz` and `.zst` after the name of a text or of JSON lines is read through. Files are streamed, so memory does
not grow with them: what is held is one block of a text, one line of JSON, or one batch of rows.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import Any

from nanotx.data.compressed import OPENERS, brief, import_arrow, opened
from nanotx.data.text_files import MARK, REPLACE, text_blocks
from nanotx.errors import DataError, did_you_mean
from nanotx.files import open_regular

LARGEST = 1 << 28
"""Bytes of a row, or of a text without a place to split it, that are held in memory."""

ROWS = 256
"""Rows of a Parquet file that are read at once."""

LINES, PARQUET = (".jsonl", ".ndjson"), ".parquet"


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A document, or a part of a long one."""

    text: str
    last: bool  # the document ends with it
    end: int  # where reading can continue after it: an offset in the uncompressed file, or a number of rows
    read: int  # bytes of the file that have been read, approximately


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How documents are read."""

    field: str = "text"  # of a row of JSON lines, and column of Parquet
    errors: str = "strict"  # or "replace", to read U+FFFD in place of what is not Unicode
    splittable: bool = True  # a long text may be read in parts, each ending at a cut (see `text_files.py`)


def documents(path: Path, how: Reading, start: int = 0) -> Iterator[Piece]:
    """Yield the documents of a file in their order, empty ones too.

    Args:
        path: its name tells the format; a file of another name is text.
        how: see `Reading`.
        start: `Piece.end` of the last piece that was read before.

    Raises:
        DataError: the file cannot be read, is damaged, or has no such field; the message gives the row.
        ConfigError: a library that reads the format is not installed.
    """
    if path.suffix.lower() == PARQUET:
        yield from _parquet_rows(path, how, start)
        return
    with opened(path) as (stream, position):
        _skip(path, stream, start)
        yield from (_json_rows if _is_lines(path) else _text)(path, stream, position, how, start)


def _is_lines(path: Path) -> bool:
    return (path.with_suffix("") if path.suffix.lower() in OPENERS else path).suffix.lower() in LINES


def _text(path: Path, stream: BufferedIOBase, position: Callable[[], int], how: Reading, start: int) -> Iterator[Piece]:
    """Yield a text: one document, in blocks."""
    before: tuple[str, int] | None = None
    blocks = text_blocks(
        stream, str(path), splittable=how.splittable, errors=how.errors, start=start, most=LARGEST, remedy=REPLACE
    )
    for text, end in blocks:
        if before:
            yield Piece(text=before[0], last=False, end=before[1], read=position())
        before = text, end
    text, end = before or ("", start)
    yield Piece(text=text, last=True, end=end, read=position())


def _json_rows(
    path: Path, stream: BufferedIOBase, position: Callable[[], int], how: Reading, start: int
) -> Iterator[Piece]:
    """Yield a text field of each line of JSON; blank lines are no rows."""
    while line := stream.readline(LARGEST + 1):
        where = _Line(path, start)
        if len(line) > LARGEST:
            raise DataError(f"{where}: is longer than {LARGEST >> 20} MiB; split it into several documents.")
        start += len(line)
        if line.strip():
            yield Piece(text=_field(line, where, how), last=True, end=start, read=position())


@dataclass(frozen=True)
class _Line:
    """Place of a line; its number is counted only if a message needs it."""

    path: Path
    offset: int

    def __str__(self) -> str:
        with opened(self.path) as (stream, _):
            lines = sum(stream.read(min(1 << 20, self.offset - at)).count(10) for at in range(0, self.offset, 1 << 20))
        return f"{self.path}: line {lines + 1:,}"


def _field(line: bytes, where: _Line, how: Reading) -> str:
    """Return the text of a line's field.

    Raises:
        DataError: the line is no JSON object, or it has no such field with a text.
    """
    try:
        text = line.decode("utf-8", how.errors)
        row = json.loads(text if where.offset else text.removeprefix(MARK))
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else _json_fault(error)
        raise DataError(f"{where}: expected a JSON object such as {{{how.field!r}: ...}}; {reason}.") from None
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected a JSON object, got {type(row).__name__}.")
    if how.field not in row:
        raise DataError(f"{where}: {_no_field('field', how.field, list(row))}")
    return _unicode(row[how.field], where, how)


def _json_fault(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at column {error.colno:,}"
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 (--errors replace reads U+FFFD there)"
    return str(error)


def _unicode(text: object, where: object, how: Reading) -> str:
    """Return a field's value, which has to be a text without lone surrogates."""
    if not isinstance(text, str):
        kind = "null" if text is None else type(text).__name__
        raise DataError(f"{where}: {how.field!r}: expected a text, got {kind}.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        if how.errors == "strict":
            raise DataError(
                f"{where}: {how.field!r} has a lone surrogate U+{ord(text[error.start]):04X} at offset {error.start}; "
                f"correct it, {REPLACE}."
            ) from None
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _no_field(kind: str, name: str, known: list[str]) -> str:
    """Return the message about a field that is not there."""
    names = ", ".join(sorted(known)[:40]) or "none"
    return f"there is no {kind} {name!r}.{did_you_mean(name, known)} Its {kind}s: {names}; name it by --field."


def _parquet_rows(path: Path, how: Reading, start: int) -> Iterator[Piece]:
    """Yield a text column of a Parquet file, row by row."""
    import_arrow(path)
    from pyarrow import ArrowException, parquet

    size = path.stat().st_size if path.exists() else 0
    try:
        with closing(open_regular(path)) as stream, parquet.ParquetFile(stream, pre_buffer=False) as file:
            column = _column(path, file, how.field)
            total, row = file.metadata.num_rows, 0
            for group in range(file.metadata.num_row_groups):
                count = file.metadata.row_group(group).num_rows
                if row + count <= start:
                    row += count
                    continue
                for batch in file.iter_batches(ROWS, row_groups=[group], columns=[column], use_threads=False):
                    for text in batch.column(0).to_pylist():
                        row += 1
                        if row > start:
                            whole = text if isinstance(text, str) else _unicode(text, f"{path}: row {row:,}", how)
                            yield Piece(text=whole, last=True, end=row, read=size * row // total)
    except ArrowException as error:
        raise DataError(f"{path}: cannot be read: it is no valid Parquet, or damaged: {brief(error)}.") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: row {row + 1:,} or one soon after it is not UTF-8; correct the file.") from None
    except OSError as error:
        fault = error.strerror or f"it is no valid Parquet, or damaged: {brief(error)}"
        raise DataError(f"{path}: cannot be read: {fault}; fetch the file again.") from None


def _column(path: Path, file: Any, name: str) -> str:
    """Return the name of a column after checking that it holds texts.

    Raises:
        DataError: there is no such column, or it holds something else.
    """
    schema = file.schema_arrow
    if schema.names.count(name) != 1:
        raise DataError(f"{path}: {_no_field('column', name, schema.names)}")
    kind = str(schema.field(name).type)
    if "string" not in kind or "<" in kind.replace("dictionary<", ""):
        texts = [field.name for field in schema if "string" in str(field.type)]
        raise DataError(
            f"{path}: column {name!r} holds {kind}; expected texts. Columns of texts: {', '.join(texts) or 'none'}; "
            "name it by --field."
        )
    return name


def _skip(path: Path, stream: BufferedIOBase, size: int) -> None:
    """Go to an offset of a stream, which may have to be read for it."""
    if path.suffix.lower() not in OPENERS:
        stream.seek(size)
        return
    while size and (data := stream.read(min(size, 1 << 20))):
        size -= len(data)
