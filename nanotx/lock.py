"""One process at a time works on a run: whoever comes second is told who came first.

The system itself holds the lock, and lets go of it however the process ends: nothing is left to clear away.
"""

import os
import platform
from collections.abc import Callable, Iterator
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


def identity(file: Path) -> tuple[int, int] | None:
    """Which file of the system's bears a name; None where none does, or nobody can tell."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


@contextmanager
def locked(folder: Path) -> Iterator[Callable[[], None]]:
    """Within, this process alone works on the run in a folder, which must be there.

    Gives a check that raises RunError where the folder was moved or removed since, and another run has taken its name.

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
        yield lambda: None
        return
    held = identity(folder / ".lock")

    def check() -> None:
        if (found := identity(folder / ".lock")) is not None and found != held:
            raise RunError(
                f"{folder}: this run's folder was moved or removed while it trained, and another run is there now. "
                "Nothing more is written; resume the moved folder by its new name."
            )

    try:
        now = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
        publish(owner, f"process {os.getpid()} of {platform.node()}, since {now},")
        yield check
    finally:
        with suppress(OSError, RunError):
            check()  # else it is the other run's
            owner.unlink()
        lock.release()
