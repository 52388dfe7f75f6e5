"""One process at a time works on a run: whoever comes second is told who came first.

The system itself holds the lock, and lets go of it however the process ends: nothing is left to clear away.
"""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from nanotx.errors import RunError
from nanotx.files import publish, read_plain

LONGEST = 1 << 12
"""Bytes of what a process writes of itself, at most."""


def owner_of(file: Path) -> str:
    """What the process that works on a run wrote of itself; of one whose file cannot be read, only that it is one."""
    try:
        return read_plain(file, LONGEST).decode("utf-8", "replace")
    except OSError:
        return "another process"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Within, this process alone works on the run in a folder, which must be there.

    Raises:
        RunError: another process does; says which.
    """
    owner = folder / ".owner"
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        name = owner_of(owner)
        raise RunError(f"{folder}: {name} works on this run; wait for it, end it, or choose another --run.") from None
    except NotImplementedError:  # a disk of another machine, perhaps, that knows no locks
        yield
        return
    try:
        now = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
        publish(owner, f"process {os.getpid()} of {platform.node()}, since {now},")
        yield
    finally:
        with suppress(OSError):
            owner.unlink()
        lock.release()
