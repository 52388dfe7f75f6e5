"""Encode files of documents into one token file: in order, in several processes, and again from where it was killed.

This process reads and decompresses; the workers encode, and compare what their ids decode to with the text. What is
held in memory is a few tasks per worker, whatever the size of the files.
"""

import dataclasses
import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nanotx.data.document_files import Piece, Reading, documents
from nanotx.errors import ConfigError, DataError, TextError
from nanotx.tokenizers import token_file, workers
from nanotx.tokenizers.base import Codec
from nanotx.tokenizers.token_file import Block, Place
from nanotx.tokenizers.workers import Encoded, WorkerPool

MANY = 1 << 12  # texts of a task, at most


@dataclass(kw_only=True)
class Task:
    """Texts that are encoded together."""

    texts: list[str] = dataclasses.field(default_factory=list)
    last: list[bool] = dataclasses.field(default_factory=list)  # of each text: a document ends with it
    files: list[Path] = dataclasses.field(default_factory=list)  # of each text
    file: int = 0  # the index of the file in which reading continues after the task,
    offset: int = 0  # and where in it
    read: int = 0  # bytes of the files that have been read

    size: int = 0  # characters of the texts

    def add(self, text: str, last: bool, file: Path) -> None:
        """Add a text."""
        self.texts.append(text)
        self.last.append(last)
        self.files.append(file)
        self.size += len(text)

    @property
    def full(self) -> bool:
        """Return whether it is work enough for a message to a worker."""
        return len(self.texts) >= MANY or self.size >= workers.TASK_CHARACTERS


def encode_to_file(
    codec: Codec,
    files: Sequence[Path],
    out: Path,
    *,
    separator: str = "",
    field: str = "text",
    errors: str = "strict",
    processes: int = 1,
    watch: Callable[[int], None] = lambda size: None,
) -> int:
    """Encode files of documents, one after another, into one token file; return its number of ids.

    Args:
        codec: the tokenizer.
        files: of the formats of `nanotx/data/document_files.py`; texts are read in blocks where `codec.splittable`,
            otherwise each as a whole.
        out: the token file, in which the end of each document is marked.
        separator: the name of a special token that is put behind each document; none where it is empty.
        field: of JSON lines, and column of Parquet, that holds the text.
        errors: "strict", or "replace" to read U+FFFD where there is no UTF-8.
        processes: how many encode.
        watch: called now and then with the number of bytes of the files that are done.

    Raises:
        DataError: a file cannot be read, or the token file cannot be written.
        TextError: a text holds what the tokenizer cannot.
        ConfigError: the separator is no special token of this tokenizer, or a library for a format is not installed.
    """
    if separator and separator not in codec.special_tokens:
        known = ", ".join(codec.special_tokens) or "none"
        raise ConfigError(f"separator: {separator!r} is no special of this tokenizer; it has: {known}.")
    how = Reading(field=field, errors=errors, splittable=codec.splittable)
    end = codec.special_tokens[separator] if separator else None
    try:
        job = job_of(codec, files, separator, how)
        with WorkerPool(codec, processes, check=True) as pool:

            def pieces(begun: Place) -> Iterator[Block]:
                for task, encoded in _encoded(pool, _tasks(files, how, begun)):
                    block = _block(begun, task, encoded, end)
                    begun = block.place
                    yield block
                    watch(task.read)

            return token_file.write_tokens(codec, out, pieces, job)
    except OSError as error:
        raise DataError(f"{error.filename or out}: no token file can be made: {error.strerror}.") from None


def job_of(codec: Codec, files: Sequence[Path], separator: str, how: Reading) -> str:
    """Return a name for what is encoded, so that only the same work is continued."""
    sizes = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    job = [token_file.VERSION, codec.digest, sizes, separator, how.field, how.errors]
    return hashlib.sha256(json.dumps(job).encode("utf-8")).hexdigest()


def _tasks(files: Sequence[Path], how: Reading, begun: Place) -> Iterator[Task]:
    """Yield the texts of the files from a place on, a task at a time."""
    task, before = Task(), sum(file.stat().st_size for file in files[: begun.file])
    for index in range(begun.file, len(files)):
        start = begun.offset if index == begun.file else 0
        for piece in documents(files[index], how, start):
            for text, last in _short(piece, how.splittable):
                task.add(text, last, files[index])
            task.file, task.offset, task.read = index, piece.end, before + piece.read
            if task.full:
                yield task
                task = Task(read=task.read)
        before += files[index].stat().st_size
        task.file, task.offset, task.read = index + 1, 0, before
    yield task


def _short(piece: Piece, splittable: bool) -> Iterator[tuple[str, bool]]:
    """Yield the text of a piece in segments of a size for workers, and whether the document ends with each."""
    if not splittable or len(piece.text) <= 4 * workers.TASK_CHARACTERS:
        yield piece.text, piece.last
        return
    segments = list(workers.segments(piece.text))
    for number, text in enumerate(segments, start=1):
        yield text, piece.last and number == len(segments)


def _encoded(pool: WorkerPool, tasks: Iterator[Task]) -> Iterator[tuple[Task, Encoded]]:
    """Yield each task with what its texts are encoded to.

    Raises:
        TextError: the tokenizer cannot encode a text; names its file.
    """
    begun = deque[Task]()

    def texts() -> Iterator[list[str]]:
        for task in tasks:
            begun.append(task)
            yield task.texts

    results = pool.encode_tasks(texts())
    try:
        for encoded in results:
            yield begun.popleft(), encoded
    except TextError as error:
        raise _with_file(pool.codec, begun[0], error) from None


def _with_file(codec: Codec, task: Task, error: TextError) -> TextError:
    """Return an error of a task with the file of the text that it is about, and how that text begins."""
    for text, file in zip(task.texts, task.files, strict=True):
        try:
            codec.encode(text)
        except TextError as of_text:
            return TextError(f"{file}: in the text that begins with {text[:40]!r}: {of_text}")
    return error


def _block(begun: Place, task: Task, encoded: Encoded, separator: int | None) -> Block:
    """Return the ids of a task, and how far the token file is with them."""
    last = np.array(task.last, bool)
    rows = encoded.rows
    if separator is not None:
        end = np.array([separator], np.int32)
        rows = [part for row, ends in zip(rows, task.last, strict=True) for part in ((row, end) if ends else (row,))]
    lengths = np.array([len(row) for row in encoded.rows], np.int64) + last * (separator is not None)
    place = Place(
        file=task.file,
        offset=task.offset,
        count=begun.count + int(lengths.sum()),
        documents=begun.documents + int(last.sum()),
        size=begun.size + encoded.size,
        exact=begun.exact and encoded.exact,
    )
    ids = np.concatenate([np.empty(0, np.int32), *rows])
    return Block(ids, place, begun.count + np.cumsum(lengths)[last])
