"""Download a file of known size and digest: over https, within a total time, checked, then renamed."""

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
        """Describe what is wrong with these bytes; return an empty string if they are the file."""
        digest = hashlib.sha256(data).hexdigest()
        if (len(data), digest) == (self.size, self.sha256):
            return ""
        size = f"more than {self.size}" if len(data) > self.size else f"{len(data)}"
        return f"expected {self.size} bytes with SHA-256 {self.sha256}, got {size} with {digest}"


Open = Callable[[str, float], BufferedIOBase]  # from an address and a timeout per operation to its bytes


def fetch(source: Source, destination: Path, seconds: float, open_url: Open) -> bytes:
    """Fetch a file, save it at its destination if that is writable, and return it.

    Args:
        source: the file to fetch.
        destination: a path that only ever has the whole file, because it is renamed into place.
        seconds: from now until the last byte, including the DNS lookup.
        open_url: `open_https`, or a substitute in a test.

    Raises:
        Unavailable: the file did not arrive, not in time, or not with its digest; no partial file is left.
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
    """Return the response of a server, with https for every address of a redirect.

    Raises:
        OSError: there is no response, or an address of a redirect is not https.
    """
    _demand_https(url)
    answer: BufferedIOBase = opener().open(url, timeout=seconds)
    return answer


def opener() -> OpenerDirector:
    """Follows redirects only to https."""
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
    """Return the bytes, read in a thread: a timeout of urllib limits each operation alone, and no DNS lookup."""
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
    """Read at most one byte more than the expected size, and raise once the time is over."""
    deadline = time.monotonic() + seconds
    data = bytearray()
    with open_url(source.url, seconds) as answer:
        while len(data) <= source.size and (piece := answer.read1(source.size + 1 - len(data))):
            data += piece
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(data)} of {source.size} bytes within {seconds:g} s")
    return bytes(data)
