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
        destination: where to save it; the whole file is renamed into place.
        seconds: time limit of the whole download, DNS lookup included.
        open_url: `open_https`, or a substitute in a test.

    Raises:
        Unavailable: the download failed, took too long, or has another digest; no partial file is left.
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
    """Return the response of a server; redirects are followed only to https.

    Raises:
        OSError: the server does not respond, or an address is not https.
    """
    require_https(url)
    response: BufferedIOBase = opener().open(url, timeout=seconds)
    return response


def opener() -> OpenerDirector:
    """Return an opener that follows redirects only to https."""
    return build_opener(_HttpsRedirects)


class _HttpsRedirects(HTTPRedirectHandler):
    def redirect_request(
        self, req: Request, fp: Any, code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        require_https(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def require_https(url: str) -> None:
    """Raise URLError unless an address is https."""
    if not url.startswith("https://"):
        raise URLError(f"expected an https address, got {url}")


def _in_time(source: Source, seconds: float, open_url: Open) -> bytes:
    """Return the bytes, read in a thread, because a timeout of urllib limits single operations and no DNS lookup."""
    results: SimpleQueue[bytes | Exception] = SimpleQueue()

    def work() -> None:
        try:
            results.put(_read(source, seconds, open_url))
        except Exception as error:
            results.put(error)

    Thread(target=work, daemon=True).start()
    try:
        result = results.get(timeout=seconds)
    except Empty:
        raise TimeoutError(f"not downloaded within {seconds:g} s") from None
    if isinstance(result, Exception):
        raise result
    return result


def _read(source: Source, seconds: float, open_url: Open) -> bytes:
    """Return the bytes, at most one more than expected; raise TimeoutError if they take too long."""
    deadline = time.monotonic() + seconds
    data = bytearray()
    with open_url(source.url, seconds) as response:
        while len(data) <= source.size and (piece := response.read1(source.size + 1 - len(data))):
            data += piece
            if time.monotonic() > deadline:
                raise TimeoutError(f"only {len(data)} of {source.size} bytes arrived within {seconds:g} s")
    return bytes(data)
