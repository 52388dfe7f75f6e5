"""Token files: the ids of texts of any size on the disk, with the tokenizer that made them and digests of both.

A header, the tokenizer's own file in JSON, zeros up to a multiple of 8 bytes, then the ids, 2 or 4 bytes each; all
numbers are little-endian. The fields of the header are those of `Header`, in their order.

While it is written it has another name, and a note next to it records how far it got: killed, the same call continues
there.
"""

import hashlib
import json
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from nanotx import disk
from nanotx.data.corpus.base import TOKEN_FILE_MAGIC as MAGIC
from nanotx.data.stored_ids import BLOCK, StoredIds, read_at
from nanotx.data.text_files import blocks
from nanotx.errors import ConfigError, DataError, TokenizerError
from nanotx.files import open_regular, read_regular, write_atomic
from nanotx.tokenizers.base import Codec, Ids
from nanotx.tokenizers.special_tokens import known_bytes
from nanotx.tokenizers.workers import WorkerPool

VERSION = 2
LAYOUT = struct.Struct("<8sIIQQQQ32s32s32s")
OFTEN = 1 << 24  # ids between two notes of how far it got
NOTE = 1 << 16  # bytes of such a note, at most
LARGEST_TOKENIZER = 1 << 24  # bytes
WHOLE = 1 << 28
"""Bytes of ids up to which a file is read and digested whole each time it is opened."""

SAMPLES, SAMPLE = 1024, 4096
"""Of a larger file so many pieces are digested, of so many bytes each, spread evenly over its ids."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """The header of a token file."""

    width: int  # bytes of an id
    count: int  # the number of ids
    vocab_size: int
    size: int  # UTF-8 bytes of the texts; 0 where the ids, <unk> aside, do not give them back, or where it is unknown
    tokenizer_size: int  # bytes of the tokenizer's file; 0 without it
    tokenizer: str  # digest of the tokenizer
    sha256: str  # of the ids, as they are in the file
    sample: str  # SHA-256 of `SAMPLES` pieces of them

    @property
    def start(self) -> int:
        """Return the offset of the first id."""
        return LAYOUT.size + -(-self.tokenizer_size // 8) * 8

    def pack(self) -> bytes:
        """Return the header as bytes."""
        sizes = (self.width, self.count, self.vocab_size, self.size, self.tokenizer_size)
        return LAYOUT.pack(MAGIC, VERSION, *sizes, *map(bytes.fromhex, (self.tokenizer, self.sha256, self.sample)))


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenFile:
    """An open token file."""

    ids: StoredIds  # read from the file when they are indexed
    header: Header

    @property
    def vocab_size(self) -> int:
        """Return the number of ids that there can be."""
        return self.header.vocab_size

    @property
    def digest(self) -> str:
        """Return the digest of the tokenizer."""
        return self.header.tokenizer


@dataclass(kw_only=True)
class Place:
    """How far a token file got."""

    file: int = 0  # the index of the text file that comes next,
    offset: int = 0  # and where in it, in bytes
    count: int = 0  # ids written
    size: int = 0  # bytes of the texts that they encode
    exact: bool = True  # whether they decode to these texts


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
    """Encode text files, one after another, into one token file; return its number of ids.

    Args:
        codec: the tokenizer.
        files: UTF-8 texts; read in blocks where `codec.splittable`, otherwise each as a whole.
        out: the token file.
        separator: the name of a special token that is put behind each text file; none where it is empty.
        errors: "strict", or "replace" to read U+FFFD where there is no UTF-8.
        processes: how many encode.
        watch: called now and then with the number of bytes of the texts that are done.

    Raises:
        DataError: a text cannot be read, or the token file cannot be written.
        TextError: a text holds what the tokenizer cannot.
        ConfigError: the separator is no special token of this tokenizer.
    """
    if separator and separator not in codec.special_tokens:
        known = ", ".join(codec.special_tokens) or "none"
        raise ConfigError(f"separator: {separator!r} is no special of this tokenizer; it has: {known}.")
    try:
        sizes = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        job = json.dumps([VERSION, codec.digest, sizes, separator, errors])
        with WorkerPool(codec, processes) as pool:

            def pieces(begun: Place) -> Iterator[tuple[Ids, Place]]:
                for ids, place in _rows(codec, pool, files, separator, errors, begun):
                    yield ids, place
                    watch(sum(size for _, size, _ in sizes[: place.file]) + place.offset)

            return write_tokens(codec, out, pieces, job)
    except OSError as error:
        raise DataError(f"{error.filename or out}: no token file can be made: {error.strerror}.") from None


def write_tokens(codec: Codec, out: Path, pieces: Callable[[Place], Iterable[tuple[Ids, Place]]], job: str = "") -> int:
    """Write a token file of ids that come piece by piece; return their number.

    Args:
        codec: the tokenizer that made them.
        out: the token file, which appears under its name when it is whole.
        pieces: called with how far an earlier process got; yields ids, and how far the file is with them.
        job: names what is encoded; where an earlier process was killed at the same, it is continued.

    Raises:
        OSError: it cannot be written.
    """
    own = codec.to_json().encode("utf-8")
    width = 2 if codec.vocab_size <= 1 << 16 else 4
    header = Header(
        width=width, count=0, vocab_size=codec.vocab_size, size=0, tokenizer_size=len(own),
        tokenizer=codec.digest, sha256="", sample="",
    )  # fmt: skip
    draft, note = out.with_name(f"{out.name}.part"), out.with_name(f"{out.name}.part.json")
    place = _found(note, draft, job, header)
    if not place.count:
        draft.write_bytes(b"")
    with draft.open("r+b") as stream:
        stream.write(b"\0" * LAYOUT.size + own.ljust(header.start - LAYOUT.size, b"\0"))
        digest = _digest_of(stream, header.start, place.count * width)
        stream.truncate(header.start + place.count * width)
        stream.seek(0, os.SEEK_END)
        last = place.count
        for ids, place in pieces(place):  # noqa: B020  the place that it got to is the one of the end
            data = ids.astype(f"<u{width}").tobytes()
            digest.update(data)
            stream.write(data)
            if job and place.count - last >= OFTEN:
                _sync(stream)
                write_atomic(note, json.dumps({"job": job, **asdict(place)}))
                last = place.count
        stream.flush()
        header = Header(
            **asdict(header)
            | {"count": place.count, "size": place.size * place.exact, "sha256": digest.hexdigest()}
            | {"sample": _sample(stream.fileno(), header.start, place.count * width)}
        )
        stream.seek(0)
        stream.write(header.pack())
        _sync(stream)
    disk.rename(draft, out)
    disk.sync(out.parent)
    note.unlink(missing_ok=True)
    return place.count


def read_header(path: Path) -> Header:
    """Read the header of a token file.

    Raises:
        DataError: there is none, or the file is not whole.
    """
    try:
        with open_regular(path) as stream:
            head = stream.read(LAYOUT.size)
            size = os.fstat(stream.fileno()).st_size
    except OSError as error:
        raise DataError(f"{path}: no token file can be read here: {error.strerror}.") from None
    if not head.startswith(MAGIC) or len(head) < 16:
        what = "an empty file" if not size else "no token file"
        raise DataError(f"{path}: this is {what}; one is made by nanotx tokenizer encode --out.")
    version, width = struct.unpack_from("<II", head, len(MAGIC))
    if version != VERSION or width not in (2, 4):
        raise DataError(
            f"{path}: version {version} with ids of {width} bytes; this nanotx reads {VERSION} with 2 or 4. "
            "Encode the texts again."
        )
    if len(head) < LAYOUT.size:
        raise DataError(f"{path}: it is cut off in its header; encode the texts again.")
    *numbers, tokenizer, sha256, sample = LAYOUT.unpack(head)[2:]
    names = ("width", "count", "vocab_size", "size", "tokenizer_size")
    header = Header(
        **dict(zip(names, numbers, strict=True)), tokenizer=tokenizer.hex(), sha256=sha256.hex(), sample=sample.hex()
    )
    if size != (wanted := header.start + header.count * width):
        raise DataError(f"{path}: expected {header.count} ids in {wanted} bytes, got {size} bytes.")
    return header


def open_tokens(path: Path, codec: Codec | None = None) -> TokenFile:
    """Open a token file and check it; its ids stay in the file, and are read when they are indexed.

    A file of up to 256 MiB is read and digested whole. Of a larger one the digest of a sample is compared; an id that
    is out of range is then an error when it is read.

    Raises:
        DataError: there is no such file, it is not whole or not as it was written, or an id is out of range.
        TokenizerError: another tokenizer than `codec` made it.
    """
    header = read_header(path)
    if codec is not None and codec.digest != header.tokenizer:
        raise TokenizerError(
            f"{path}: made by the tokenizer of digest {header.tokenizer[:12]}..., and this one is {codec.part} of "
            f"{codec.digest[:12]}...; take the tokenizer in it by --tokenizer {path}, or encode the texts again."
        )
    if codec is not None and codec.vocab_size != header.vocab_size:
        raise DataError(
            f"{path}: says that there are {header.vocab_size} ids, and its tokenizer has {codec.vocab_size}; the file "
            "was damaged after it was written; encode the texts again."
        )
    undefined = codec.undefined_ids if codec is not None else ()
    ids = StoredIds(path, header.start, header.width, header.count, header.vocab_size, undefined)
    check_digest(path, header, ids)
    return TokenFile(ids=ids, header=header)


def check_digest(path: Path, header: Header, ids: StoredIds) -> None:
    """Raise DataError where the ids of a file, or a sample of many, are not those that were written."""
    size = header.count * header.width
    if size <= WHOLE:
        digest = hashlib.sha256()
        for first in range(0, header.count, BLOCK):
            digest.update(ids.read(first, min(BLOCK, header.count - first)).tobytes())
        same = digest.hexdigest() == header.sha256
    else:
        with open_regular(path) as stream:
            same = _sample(stream.fileno(), header.start, size) == header.sample
    if not same:
        raise DataError(
            f"{path}: its ids are not those of its digest {header.sha256[:12]}...: the file was changed or damaged "
            "after it was written; encode the texts again."
        )


def tokenizer_json(path: Path) -> bytes:
    """Read the tokenizer's own file out of a token file.

    Raises:
        DataError: it is no token file, or it is not whole.
        TokenizerError: there is no tokenizer in it.
    """
    header = read_header(path)
    if not 0 < header.tokenizer_size <= LARGEST_TOKENIZER:
        raise TokenizerError(
            f"{path}: there is no tokenizer in this token file; name the one of digest {header.tokenizer[:12]}... "
            "that made it by --tokenizer FILE.json."
        )
    with open_regular(path) as stream:
        stream.seek(LAYOUT.size)
        return stream.read(header.tokenizer_size)


def _rows(
    codec: Codec, pool: WorkerPool, files: Sequence[Path], separator: str, errors: str, place: Place
) -> Iterator[tuple[Ids, Place]]:
    """Yield the ids of each block, and how far the token file is with them."""
    end = np.array([codec.special_tokens[separator]] if separator else [], np.int32)
    for index in range(place.file, len(files)):
        start = place.offset if index == place.file else 0
        texts, known = _apart(blocks(files[index], splittable=codec.splittable, errors=errors, start=start))
        for ids in pool.encode(texts):
            text, offset = known.pop(0)
            place = advanced(place, codec, ids, text, file=index, offset=offset)
            yield ids, place
        place = Place(**asdict(place) | {"file": index + 1, "offset": 0, "count": place.count + len(end)})
        yield end, place


def advanced(place: Place, codec: Codec, ids: Ids, text: str, **where: int) -> Place:
    """Return how far a token file is with the ids of one more text."""
    data = text.encode("utf-8")
    exact = place.exact and known_bytes(codec, ids, data) > 0
    counts: dict[str, Any] = {"count": place.count + len(ids), "size": place.size + len(data), "exact": exact}
    return Place(**asdict(place) | counts | where)


def _apart(pairs: Iterator[tuple[str, int]]) -> tuple[Iterator[str], list[tuple[str, int]]]:
    """Return the texts, and a list to which each is added, with the offset behind it, when it is read."""
    known = list[tuple[str, int]]()

    def texts() -> Iterator[str]:
        for text, end in pairs:
            known.append((text, end))
            yield text

    return texts(), known


def _found(note: Path, draft: Path, job: str, header: Header) -> Place:
    """Return how far the same work got before; the beginning where nothing fits."""
    try:
        table = json.loads(read_regular(note, NOTE))
        file, offset, count, size = (int(table[name]) for name in ("file", "offset", "count", "size"))
        place = Place(file=file, offset=offset, count=count, size=size, exact=table["exact"] is True)
        if job and table["job"] == job and draft.stat().st_size >= header.start + place.count * header.width:
            return place
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        pass
    return Place()


def _digest_of(stream: IO[bytes], start: int, size: int) -> Any:
    """Return the digest of what an earlier process wrote of the ids, to be continued."""
    digest = hashlib.sha256()
    stream.flush()
    for at in range(0, size, BLOCK):
        digest.update(read_at(stream.fileno(), start + at, min(BLOCK, size - at)))
    return digest


def _sample(file: int, start: int, size: int) -> str:
    """Return the SHA-256 of pieces spread evenly over the ids of an open file, or of all where they are few."""
    digest = hashlib.sha256()
    if size <= SAMPLES * SAMPLE:
        digest.update(read_at(file, start, size))
    else:
        for number in range(SAMPLES):
            digest.update(read_at(file, start + number * (size - SAMPLE) // (SAMPLES - 1), SAMPLE))
    return digest.hexdigest()


def _sync(stream: IO[bytes]) -> None:
    stream.flush()
    os.fsync(stream.fileno())
