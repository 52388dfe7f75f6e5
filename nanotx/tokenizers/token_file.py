"""Token files: the ids of a corpus of any size, on the disk, under the digest of the tokenizer that made them.

A header of 64 bytes, then the ids, 2 or 4 bytes each, all little-endian. The header: `nanotxid`, the version (4
bytes), the bytes of an id (4), how many ids follow (8), how many there can be (8), the tokenizer's SHA-256 (32).

While it is written it bears another name, and beside it lies how far it got: killed, it goes on from there.
"""

import json
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from nanotx import disk
from nanotx.data.text_files import blocks
from nanotx.errors import ConfigError, DataError, TokenizerError
from nanotx.files import open_regular, read_regular, write_atomic
from nanotx.tokenizers.base import Codec, Ids
from nanotx.tokenizers.stored_ids import StoredIds
from nanotx.tokenizers.workers import WorkerPool

MAGIC = b"nanotxid"
VERSION = 1
HEADER = struct.Struct("<8sIIQQ32s")
OFTEN = 1 << 24  # ids between two notes of how far it got
NOTE = 1 << 16  # bytes of such a note, at most


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenFile:
    """A token file that was opened."""

    ids: StoredIds  # read from the file when they are looked at
    vocab_size: int
    digest: str  # of the tokenizer


@dataclass(kw_only=True)
class Place:
    """How far a token file got."""

    file: int = 0  # the index of the text file that comes next,
    offset: int = 0  # and where in it, in bytes
    count: int = 0  # ids written


def encode_to_file(
    codec: Codec,
    files: Sequence[Path],
    out: Path,
    *,
    separator: str = "",
    errors: str = "strict",
    processes: int = 1,
    watch: Callable[[int], None] = lambda size: None,
) -> int:
    """Encode text files, one after another, into one token file; gives how many ids it has.

    Args:
        codec: the tokenizer.
        files: UTF-8 texts; read in blocks where `codec.splittable`, otherwise each as a whole.
        out: the token file.
        separator: the name of a special id that is put behind each text file; none where it is empty.
        errors: "strict", or "replace" to read U+FFFD where there is no UTF-8.
        processes: how many encode.
        watch: told how many bytes of the texts are done, now and then.

    Raises:
        DataError: a text cannot be read, or the token file cannot be written.
        TextError: a text holds what the tokenizer cannot.
        ConfigError: the separator is no special of this tokenizer.
    """
    if separator and separator not in codec.special_tokens:
        known = ", ".join(codec.special_tokens) or "none"
        raise ConfigError(f"separator: {separator!r} is no special of this tokenizer; it has: {known}.")
    width = 2 if codec.vocab_size <= 1 << 16 else 4
    draft, note = out.with_name(f"{out.name}.part"), out.with_name(f"{out.name}.part.json")
    try:
        sizes = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        job = json.dumps([VERSION, codec.digest, sizes, separator, errors])
        begun = place = _found(note, draft, job, width)
        if not begun.count:
            draft.write_bytes(b"")
        with draft.open("r+b") as stream, WorkerPool(codec, processes) as pool:
            stream.truncate(HEADER.size + begun.count * width)
            stream.seek(HEADER.size + begun.count * width)
            last = begun.count
            for ids, place in _rows(codec, pool, files, separator, errors, begun):
                stream.write(ids.astype(f"<u{width}").tobytes())
                watch(sum(size for _, size, _ in sizes[: place.file]) + place.offset)
                if place.count - last >= OFTEN:
                    _sync(stream)
                    write_atomic(note, json.dumps({"job": job, **vars(place)}))
                    last = place.count
            stream.seek(0)
            stream.write(HEADER.pack(MAGIC, VERSION, width, place.count, codec.vocab_size, bytes.fromhex(codec.digest)))
            _sync(stream)
        disk.rename(draft, out)
        disk.sync(out.parent)
        note.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"{error.filename or out}: no token file can be made: {error.strerror}.") from None
    return place.count


def open_tokens(path: Path, codec: Codec | None = None) -> TokenFile:
    """A token file, each of whose ids was looked at once; they stay in the file, and are read when they are asked for.

    Raises:
        DataError: there is none, it is not whole, or an id in it is beyond the vocabulary or stands for nothing.
        TokenizerError: another tokenizer than `codec` made it.
    """
    try:
        with open_regular(path) as stream:
            head = stream.read(HEADER.size)
            size = os.fstat(stream.fileno()).st_size
    except OSError as error:
        raise DataError(f"{path}: no token file can be read here: {error.strerror}.") from None
    if len(head) < HEADER.size or not head.startswith(MAGIC):
        raise DataError(f"{path}: this is no token file; one is made by nanotx tokenizer encode --out.")
    _, version, width, count, vocab_size, digest = HEADER.unpack(head)
    if version != VERSION or width not in (2, 4):
        raise DataError(
            f"{path}: version {version} with ids of {width} bytes; this nanotx reads {VERSION} with 2 or 4."
        )
    if size != HEADER.size + count * width:
        raise DataError(f"{path}: expected {count} ids in {HEADER.size + count * width} bytes, got {size} bytes.")
    if codec is not None and codec.digest != digest.hex():
        raise TokenizerError(
            f"{path}: made by the tokenizer of digest {digest.hex()[:12]}..., and this one is {codec.part} of "
            f"{codec.digest[:12]}...; encode the texts again."
        )
    if codec is not None and codec.vocab_size != vocab_size:
        raise DataError(
            f"{path}: says that there are {vocab_size} ids, and its tokenizer has {codec.vocab_size}; it was damaged "
            "since it was made; encode the texts again."
        )
    ids = StoredIds(path, HEADER.size, width, count, vocab_size)
    ids.check(codec.undefined_ids if codec is not None else ())
    return TokenFile(ids=ids, vocab_size=vocab_size, digest=digest.hex())


def _rows(
    codec: Codec, pool: WorkerPool, files: Sequence[Path], separator: str, errors: str, place: Place
) -> Iterator[tuple[Ids, Place]]:
    """The ids of each block, and how far the token file is with them."""
    end = np.array([codec.special_tokens[separator]] if separator else [], np.int32)
    for index in range(place.file, len(files)):
        start = place.offset if index == place.file else 0
        texts, ends = _apart(blocks(files[index], splittable=codec.splittable, errors=errors, start=start))
        for ids in pool.encode(texts):
            place = Place(file=index, offset=ends.pop(0), count=place.count + len(ids))
            yield ids, place
        place = Place(file=index + 1, offset=0, count=place.count + len(end))
        yield end, place


def _apart(pairs: Iterator[tuple[str, int]]) -> tuple[Iterator[str], list[int]]:
    """The texts, and a list into which the offset behind each goes as it is read."""
    ends = list[int]()

    def texts() -> Iterator[str]:
        for text, end in pairs:
            ends.append(end)
            yield text

    return texts(), ends


def _found(note: Path, draft: Path, job: str, width: int) -> Place:
    """How far the same work got before; the beginning where nothing fits."""
    try:
        said = json.loads(read_regular(note, NOTE))
        place = Place(**{name: int(said[name]) for name in ("file", "offset", "count")})
        if said["job"] == job and draft.stat().st_size >= HEADER.size + place.count * width:
            return place
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        pass
    return Place()


def _sync(stream: IO[bytes]) -> None:
    stream.flush()
    os.fsync(stream.fileno())
