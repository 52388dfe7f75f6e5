"""Fetch a large file over https: its size is shown first, and a download that was interrupted continues.

While it arrives it is `NAME.part`, with a note of what the server called it, so that a file that was replaced in the
meantime is not joined to the beginning of the old one. It gets its name when it is whole and has its digest.
"""

import hashlib
import json
import shutil
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request

from nanotx import disk
from nanotx.data.corpus.base import Unavailable
from nanotx.data.download import opener, require_https
from nanotx.errors import DataError
from nanotx.files import read_regular, write_atomic

PIECE = 1 << 20  # bytes that are read at once
SECONDS = 30.0  # until the next piece has to arrive
NOTE = 1 << 12  # bytes of a note, at most


Open = Callable[[str, Mapping[str, str]], HTTPResponse]  # from an address and the headers of a request


@dataclass(frozen=True, kw_only=True)
class LargeFile:
    """A file on a server."""

    url: str
    member: str = ""  # of a zip archive: the file in it that is wanted
    sha1: str = ""  # as its publisher states it; empty where none does
    where: str = ""  # the page on which the publisher does


def fetch_file(file: LargeFile, destination: Path, say: Callable[[str], None], open_url: Open) -> None:
    """Fetch a file to its destination, from where an earlier call stopped.

    Args:
        file: see `LargeFile`.
        destination: it is there afterwards, whole.
        say: prints a line: the size before anything is fetched, and the digest that was checked or recorded.
        open_url: `open_range`, or a substitute in a test.

    Raises:
        Unavailable: the server cannot be reached, or stopped; what arrived is kept for the next call.
        DataError: the file has another digest, or there is no room for it.
    """
    part, note = (
        destination.with_name(f"{destination.name}.part"),
        destination.with_name(f"{destination.name}.part.json"),
    )
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        response, have, size = begin(file, part, note, open_url)
        try:
            say(f"{file.url}: {size / 1e6:,.1f} MB" + (f", of which {have / 1e6:,.1f} MB are here" if have else ""))
            check_room(destination, size - have)
            arrived = receive(response, part, have)
        finally:
            response.close()
    except (OSError, HTTPException) as error:
        raise Unavailable(f"{file.url}: {error or type(error).__name__}. The same command continues.") from error
    if arrived != size:
        raise Unavailable(f"{file.url}: {arrived:,} of {size:,} bytes arrived. The same command continues.")
    whole = unpacked(part, file.member) if file.member else part
    check_digest(file, whole, destination, say)
    disk.rename(whole, destination)
    for left in (part, note):
        left.unlink(missing_ok=True)


def begin(file: LargeFile, part: Path, note: Path, open_url: Open) -> tuple[HTTPResponse, int, int]:
    """Ask for the rest of a file; return the response, how many bytes are here already, and the size of the whole."""
    have, known = part.stat().st_size if part.exists() else 0, read_note(note)
    tag = known.get("etag", "") if known.get("url") == file.url else ""
    headers = {"Range": f"bytes={have}-", "If-Range": tag} if have and tag else {}
    try:
        response = open_url(file.url, headers)
    except HTTPError as error:
        if error.code != 416 or not headers:  # beyond the end: the file is another one now
            raise
        response = open_url(file.url, {})
    have = have if response.status == 206 else 0
    size = have + int(response.headers.get("Content-Length") or 0)
    tag = response.headers.get("ETag") or ""
    write_atomic(note, json.dumps({"url": file.url, "etag": "" if tag.startswith("W/") else tag}))
    return response, have, size


def receive(response: HTTPResponse, part: Path, have: int) -> int:
    """Append what a server sends to the part of a file; return the size of the part."""
    with part.open("ab") as stream:
        stream.truncate(have)
        while data := response.read(PIECE):
            stream.write(data)
            have += len(data)
    return have


def unpacked(packed: Path, member: str) -> Path:
    """Unpack a file of a zip archive beside it.

    Raises:
        DataError: it is no such archive, or it is damaged; it is removed.
    """
    path = packed.with_name(f"{packed.name}.unpacked")
    try:
        with zipfile.ZipFile(packed) as archive, archive.open(member) as source, path.open("wb") as target:
            shutil.copyfileobj(source, target, PIECE)
    except (zipfile.BadZipFile, KeyError, zlib.error, EOFError) as error:
        disk.remove(packed)
        raise DataError(f"{packed}: is no valid archive with {member!r}: {error}; it was removed: try again.") from None
    return path


def check_room(destination: Path, size: int) -> None:
    """Raise DataError if a disk has no room for so many bytes."""
    free = shutil.disk_usage(destination.parent).free
    if size > free:
        raise DataError(
            f"{destination}: {size / 1e6:,.1f} MB are to be fetched, and {free / 1e6:,.1f} MB are free; make room, or "
            "name a folder on another disk by NANOTX_DATA."
        )


def check_digest(file: LargeFile, part: Path, destination: Path, say: Callable[[str], None]) -> None:
    """Compare a file with the digest of its publisher; where there is none, record the one of this fetch.

    Raises:
        DataError: it has another one; the file is removed.
    """
    kind, pin = ("sha1", file.sha1) if file.sha1 else ("sha256", pinned(destination))
    with part.open("rb") as stream:
        digest = hashlib.file_digest(stream, kind).hexdigest()
    if pin and digest != pin:
        disk.remove(part)
        source = file.where or f"{pin_of(destination)}, recorded when it was fetched first"
        raise DataError(f"{file.url}: expected {kind.upper()} {pin} ({source}), got {digest}; it was removed.")
    if file.sha1:
        say(f"{destination.name}: SHA-1 {digest}, as {file.where} states it")
    elif not pin:
        write_atomic(pin_of(destination), digest + "\n")
        say(f"{destination.name}: its publisher states no digest; SHA-256 {digest} is recorded, and compared later")


def pin_of(destination: Path) -> Path:
    """Return the file in which the digest of the first fetch is recorded."""
    return destination.with_name(f"{destination.name}.sha256")


def pinned(destination: Path) -> str:
    """Return the digest that was recorded at the first fetch; empty without one."""
    try:
        return read_regular(pin_of(destination), NOTE).decode("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def read_note(note: Path) -> dict[str, str]:
    """Return what was noted of an interrupted download; empty if nothing valid was."""
    try:
        table = json.loads(read_regular(note, NOTE))
        return {str(name): str(value) for name, value in table.items()}
    except (OSError, ValueError, AttributeError):
        return {}


def open_range(url: str, headers: Mapping[str, str]) -> HTTPResponse:
    """Return the response of a server; redirects are followed only to https.

    Raises:
        OSError: the server does not respond, or an address is not https.
    """
    require_https(url)
    response: HTTPResponse = opener().open(Request(url, headers=dict(headers)), timeout=SECONDS)
    return response
