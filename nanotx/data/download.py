"""Download a file that is known to the byte: over https, within seconds in all, checked, then renamed."""

import hashlib
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage
from io import BufferedIOBase
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any
from urllib.error import URLError
from urllib.request import HTTPRedirectHandler, OpenerDirector, Request, build_opener

from nanotx.data.corpus import Unavailable
from nanotx.files import write_atomic


@dataclass(frozen=True, kw_only=True)
class Source:
    """The address of a file, and the digest and size that it must have."""

    url: str
    sha256: str
    size: int  # bytes

    def fault(self, data: bytes) -> str:
        """Return what is wrong with these bytes, in words; empty where they are the file."""
        digest = hashlib.sha256(data).hexdigest()
        if (len(data), digest) == (self.size, self.sha256):
            return ""
        size = f"more than {self.size}" if len(data) > self.size else f"{len(data)}"
        return f"expected {self.size} bytes with SHA-256 {self.sha256}, got {size} with {digest}"


Open = Callable[[str, float], BufferedIOBase]  # an address and the seconds that a step may take, to its bytes


def fetch(source: Source, destination: Path, seconds: float, open_url: Open) -> bytes:
    """Return the file, fetched and laid at its destination, or only fetched where that cannot be written.

    Args:
        source: what to fetch.
        destination: a path that only ever holds the whole file, because it is renamed into place.
        seconds: from now until the last byte, looking up the address included.
        open_url: `open_https`, or what a test has instead.

    Raises:
        Unavailable: it did not come, not in time, or not as it must be; nothing is left behind.
    """
    try:
        data = _in_time(source, seconds, open_url)
    except (OSError, HTTPException) as error:
        raise Unavailable(f"{source.url}: {error or type(error).__name__}") from error
    if fault := source.fault(data):
        raise Unavailable(f"{source.url}: {fault}")
    with suppress(OSError):
        destination.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(destination, data)
    return data


def open_https(url: str, seconds: float) -> BufferedIOBase:
    """Return the answer of a server, over https from the first address to the last.

    Raises:
        OSError: there is none, or some address on the way is no https.
    """
    _demand_https(url)
    answer: BufferedIOBase = opener().open(url, timeout=seconds)
    return answer


def opener() -> OpenerDirector:
    """Follows redirects to https alone."""
    return build_opener(_ToHttps)


class _ToHttps(HTTPRedirectHandler):
    def redirect_request(
        self, req: Request, fp: Any, code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        _demand_https(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _demand_https(url: str) -> None:
    if not url.startswith("https://"):
        raise URLError(f"expected an https address, got {url}")


def _in_time(source: Source, seconds: float, open_url: Open) -> bytes:
    """Return the bytes, read in a thread: a timeout of urllib spans one step alone, and no look-up of a name."""
    answer: SimpleQueue[bytes | Exception] = SimpleQueue()

    def work() -> None:
        try:
            answer.put(_read(source, seconds, open_url))
        except Exception as error:
            answer.put(error)

    Thread(target=work, daemon=True).start()
    try:
        got = answer.get(timeout=seconds)
    except Empty:
        raise TimeoutError(f"not here within {seconds:g} s") from None
    if isinstance(got, Exception):
        raise got
    return got


def _read(source: Source, seconds: float, open_url: Open) -> bytes:
    """At most one byte more than there should be, and nothing once the time is over."""
    deadline = time.monotonic() + seconds
    data = bytearray()
    with open_url(source.url, seconds) as answer:
        while len(data) <= source.size and (piece := answer.read1(source.size + 1 - len(data))):
            data += piece
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(data)} of {source.size} bytes within {seconds:g} s")
    return bytes(data)
