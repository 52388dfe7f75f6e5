"""Token files: the ids of texts of any size on the disk, with the tokenizer that made them and digests of both.

A header, the tokenizer's own file in JSON, zeros up to a multiple of 8 bytes, then the ids, 2 or 4 bytes each. Where
documents are marked, zeros up to a multiple of 8 bytes follow, then for each document, in 8 bytes, the number of ids up
to its end; an empty one ends where the one before it does. All numbers are little-endian. The fields of the header are
those of `Header`, in their order.

While it is written it has another name, and a note next to it records how far it got: killed, the same call continues
there.
"""

import hashlib
import json
import os
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nanotx import disk
from nanotx.data.corpus.base import TOKEN_FILE_MAGIC as MAGIC
from nanotx.data.stored_ids import BLOCK, StoredIds, read_ahead, read_at
from nanotx.errors import DataError, TokenizerError
from nanotx.files import open_regular, read_regular, write_atomic
from nanotx.tokenizers.base import Codec, Ids

VERSION = 3
LAYOUT = struct.Struct("<8sIIQQQQQ32s32s32s")
END = np.dtype("<u8")  # of a document
OFTEN = 1 << 24  # ids between two notes of how far it got
NOTE = 1 << 16  # bytes of such a note, at most
LARGEST_TOKENIZER = 1 << 24  # bytes
WHOLE = 1 << 28
"""Bytes of ids up to which a file is read and digested whole each time it is opened."""

CACHED = 1 << 17
"""Ids that are digested together: so many stay in the caches of a core, and their memory is used again."""

SAMPLES, SAMPLE = 1024, 4096
"""Of a larger file so many pieces are digested, of so many bytes each, spread evenly over it."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """The header of a token file."""

    width: int  # bytes of an id
    count: int  # the number of ids
    vocab_size: int
    size: int  # UTF-8 bytes of the texts; 0 where the ids, <unk> aside, do not give them back, or where it is unknown
    tokenizer_size: int  # bytes of the tokenizer's file; 0 without it
    documents: int = 0  # the number of documents that are marked; 0 where none are
    tokenizer: str  # digest of the tokenizer
    sha256: str  # of the ids and the ends of documents, as they are in the file
    sample: str  # SHA-256 of `SAMPLES` pieces of them

    @property
    def start(self) -> int:
        """Return the offset of the first id."""
        return LAYOUT.size + whole_words(self.tokenizer_size)

    @property
    def ends(self) -> int:
        """Return the offset of the end of the first document; that of the end of the file where none is marked."""
        size = self.count * self.width
        return self.start + (whole_words(size) if self.documents else size)

    @property
    def payload(self) -> int:
        """Return the number of bytes from the first id to the end of the file."""
        return self.ends + END.itemsize * self.documents - self.start

    def pack(self) -> bytes:
        """Return the header as bytes."""
        sizes = (self.width, self.count, self.vocab_size, self.size, self.tokenizer_size, self.documents)
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
    documents: int = 0  # ends of documents written
    size: int = 0  # bytes of the texts that they encode
    exact: bool = True  # whether they decode to these texts


class Block(NamedTuple):
    """Ids to be written next."""

    ids: Ids
    place: Place  # how far the file is with them
    ends: NDArray[np.int64] = np.empty(0, np.int64)  # how many ids of the whole file are up to each document's end


def write_tokens(codec: Codec, out: Path, pieces: Callable[[Place], Iterable[Block]], job: str = "") -> int:
    """Write a token file of ids that come piece by piece; return their number.

    Args:
        codec: the tokenizer that made them.
        out: the token file, which appears under its name when it is whole.
        pieces: called with how far an earlier process got; yields ids, and how far the file is with them.
        job: names what is encoded; where an earlier process was killed at the same, it is continued.

    Raises:
        OSError: it cannot be written.
    """
    draft = Draft.of(codec, out, job)
    with draft.file.open("r+b") as ids, draft.ends.open("r+b") as ends:
        digest = draft.prepare(ids, ends)
        last = draft.place.count
        for block in pieces(draft.place):
            data = block.ids.astype(f"<u{draft.header.width}").tobytes()
            digest.update(data)
            ids.write(data)
            ends.write(block.ends.astype(END).tobytes())
            draft.place = block.place
            if job and block.place.count - last >= OFTEN:
                draft.take_note(ids, ends)
                last = block.place.count
        draft.complete(ids, ends, digest)
    disk.rename(draft.file, out)
    disk.sync(out.parent)
    draft.note.unlink(missing_ok=True)
    draft.ends.unlink(missing_ok=True)
    return draft.place.count


@dataclass(kw_only=True)
class Draft:
    """A token file that is being written."""

    header: Header
    tokenizer: bytes
    file: Path
    ends: Path  # ends of documents, which follow the ids in the end
    note: Path  # how far an earlier process got
    job: str
    place: Place

    @classmethod
    def of(cls, codec: Codec, out: Path, job: str) -> "Draft":
        """Return the draft of a token file, as far as an earlier process got at the same job."""
        own = codec.to_json().encode("utf-8")
        header = Header(
            width=2 if codec.vocab_size <= 1 << 16 else 4, count=0, vocab_size=codec.vocab_size, size=0,
            tokenizer_size=len(own), tokenizer=codec.digest, sha256="", sample="",
        )  # fmt: skip
        file, ends, note = (out.with_name(out.name + suffix) for suffix in (".part", ".part.ends", ".part.json"))
        draft = cls(header=header, tokenizer=own, file=file, ends=ends, note=note, job=job, place=Place())
        draft.place = draft.found()
        if not draft.place.count:
            file.write_bytes(b"")
            ends.write_bytes(b"")
        return draft

    def found(self) -> Place:
        """Return how far the same work got before; the beginning where nothing fits."""
        try:
            table = json.loads(read_regular(self.note, NOTE))
            names = ("file", "offset", "count", "documents", "size")
            place = Place(**{name: int(table[name]) for name in names}, exact=table["exact"] is True)
            ids, ends = place.count * self.header.width, place.documents * END.itemsize
            if self.job and table["job"] == self.job and self.file.stat().st_size >= self.header.start + ids:
                return place if self.ends.stat().st_size >= ends else Place()
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            pass
        return Place()

    def prepare(self, ids: IO[bytes], ends: IO[bytes]) -> Any:
        """Cut off what was written after the last note, and return the digest of the ids before it."""
        start, size = self.header.start, self.place.count * self.header.width
        ids.write(b"\0" * LAYOUT.size + self.tokenizer.ljust(start - LAYOUT.size, b"\0"))
        digest = hashlib.sha256()
        ids.flush()
        for data in _pieces_of(ids.fileno(), start, size):
            digest.update(data)
        for stream, end in ((ids, start + size), (ends, self.place.documents * END.itemsize)):
            stream.truncate(end)
            stream.seek(0, os.SEEK_END)
        return digest

    def take_note(self, ids: IO[bytes], ends: IO[bytes]) -> None:
        """Record how far the file is, after it is on the disk."""
        _sync(ids)
        _sync(ends)
        write_atomic(self.note, json.dumps({"job": self.job, **asdict(self.place)}))

    def complete(self, ids: IO[bytes], ends: IO[bytes], digest: Any) -> None:
        """Append the ends of documents, and write the header."""
        place = self.place
        size = place.size if place.exact else 0
        header = replace(self.header, count=place.count, documents=place.documents, size=size)
        padding = bytearray(header.ends - header.start - place.count * header.width)
        ends.flush()
        for data in (padding, *_pieces_of(ends.fileno(), 0, place.documents * END.itemsize)):
            digest.update(data)
            ids.write(data)
        ids.flush()
        sample = _sample(ids.fileno(), header.start, header.payload)
        ids.seek(0)
        ids.write(replace(header, sha256=digest.hexdigest(), sample=sample).pack())
        _sync(ids)


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
    names = ("width", "count", "vocab_size", "size", "tokenizer_size", "documents")
    header = Header(
        **dict(zip(names, numbers, strict=True)), tokenizer=tokenizer.hex(), sha256=sha256.hex(), sample=sample.hex()
    )
    if size != (wanted := header.start + header.payload):
        raise DataError(
            f"{path}: expected {header.count} ids in {wanted} bytes, got {size} bytes: it was cut off or changed after "
            "it was written; copy it or encode the texts again."
        )
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
    ids = StoredIds(
        path, header.start, header.width, header.count, header.vocab_size, undefined, header.ends, header.documents
    )
    check_digest(path, header, ids)
    return TokenFile(ids=ids, header=header)


def check_digest(path: Path, header: Header, ids: StoredIds) -> None:
    """Raise DataError where the ids of a file, or a sample of many, are not those that were written."""
    with open_regular(path) as stream:
        if header.payload <= WHOLE:
            digest = hashlib.sha256()
            for first in range(0, header.count, CACHED):
                digest.update(ids.read(first, min(CACHED, header.count - first)).data)
            behind = header.start + header.count * header.width
            for data in _pieces_of(stream.fileno(), behind, header.start + header.payload - behind):
                digest.update(data)
            same = digest.hexdigest() == header.sha256
        else:
            same = _sample(stream.fileno(), header.start, header.payload) == header.sample
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


def _pieces_of(file: int, start: int, size: int) -> Iterator[bytearray]:
    """Yield the bytes of an open file from an offset on."""
    for at in range(0, size, BLOCK):
        yield read_at(file, start + at, min(BLOCK, size - at))


def whole_words(size: int) -> int:
    """Return the next multiple of 8."""
    return -(-size // 8) * 8


def _sample(file: int, start: int, size: int) -> str:
    """Return the SHA-256 of pieces spread evenly over the ids of an open file, or of all where they are few."""
    digest = hashlib.sha256()
    if size <= SAMPLES * SAMPLE:
        digest.update(read_at(file, start, size))
    else:
        places = [start + number * (size - SAMPLE) // (SAMPLES - 1) for number in range(SAMPLES)]
        read_ahead(file, np.array(places), np.full(SAMPLES, SAMPLE))
        for place in places:
            digest.update(read_at(file, place, SAMPLE))
    return digest.hexdigest()


def _sync(stream: IO[bytes]) -> None:
    stream.flush()
    os.fsync(stream.fileno())
