"""Read files through their compression, `.gz` and `.zst`, as a stream."""

import gzip
import importlib
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path
from typing import Any

from nanotx.errors import ConfigError, DataError
from nanotx.files import open_regular


@contextmanager
def opened(path: Path) -> Iterator[tuple[BufferedIOBase, Callable[[], int]]]:
    """Open a file, through its compression; give its bytes, and how many of its own were read.

    Raises:
        DataError: it cannot be read, or is not of the format that its name promises.
    """
    suffix = path.suffix.lower()
    try:
        with open_regular(path) as file:
            stream: BufferedIOBase = OPENERS[suffix](path, file) if suffix in OPENERS else file
            yield stream, file.tell
    except EOFError:
        raise DataError(f"{path}: its compressed data is cut off: fetch or make the file again.") from None
    except gzip.BadGzipFile as error:
        raise DataError(f"{path}: is no valid gzip file: {brief(error)}; fetch it again, or rename it.") from None
    except zlib.error as error:
        raise DataError(f"{path}: its compressed data is damaged: {brief(error)}; fetch the file again.") from None
    except OSError as error:
        fault = error.strerror or f"{brief(error)}; fetch the file again, or rename it if it is not compressed"
        raise DataError(f"{path}: cannot be read: {fault}.") from None


def _zstandard(path: Path, file: BufferedIOBase) -> BufferedIOBase:
    arrow = import_arrow(path)
    stream: BufferedIOBase = io.BufferedReader(
        arrow.CompressedInputStream(arrow.PythonFile(file, "r"), "zstd"), 1 << 20
    )
    return stream


def _gzip(path: Path, file: BufferedIOBase) -> BufferedIOBase:
    return gzip.GzipFile(fileobj=file, mode="rb")


OPENERS: dict[str, Callable[[Path, BufferedIOBase], BufferedIOBase]] = {".gz": _gzip, ".zst": _zstandard}


def import_arrow(path: Path) -> Any:
    """Return the library pyarrow.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module("pyarrow")
    except ImportError:
        raise ConfigError(
            f"{path}: pyarrow reads this format, and is not installed; try pip install 'nanotx[data]'."
        ) from None


def brief(error: Exception) -> str:
    """Return the message of a library in one line."""
    return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
