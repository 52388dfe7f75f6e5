"""A record of a process's writes to the disk, and the law of their order: a power cut at any moment loses nothing.

The calls of the operating system are recorded: the state of each file that was flushed, and the contents of a path when
it was renamed. So the law applies to any code, whatever its structure.
"""

import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nanotx.errors import LawBroken

Key = tuple[int, int]
"""A device and an inode: a file, whatever its name."""
State = tuple[Key, int, int]
"""A file as it is: which, its size, and when it was last written."""

MANIFEST, METRICS_LOG = "MANIFEST.json", "metrics.jsonl"


@dataclass(frozen=True, kw_only=True)
class Event:
    """A flush, or a rename."""

    thread: int  # that did it
    state: State  # of what was flushed or renamed
    old: Path | None = None  # of a rename
    new: Path | None = None
    inside: dict[str, State] = field(default_factory=dict)  # of what was renamed: all files and folders in it
    parent: Key = (0, 0)  # of a rename: the folder that contains the new name
    metrics_log: State | None = None  # of a rename: the run's metrics log at that moment


@dataclass(frozen=True, kw_only=True)
class DiskRecord:
    """Record of what a process did to a run's folder."""

    folder: Path
    begun: dict[Path, State]  # what was there before
    events: list[Event] = field(default_factory=list)


def state_of(stat: os.stat_result) -> State:
    """Return the state of a file as of now."""
    return (stat.st_dev, stat.st_ino), stat.st_size, stat.st_mtime_ns


def states_in(path: Path) -> dict[str, State]:
    """Return the states of the files and folders below a path, by their relative names; `.` is the path itself."""
    states = {".": state_of(path.stat())}
    if path.is_dir():
        states |= {below.relative_to(path).as_posix(): state_of(below.lstat()) for below in path.rglob("*")}
    return states


@contextmanager
def disk_record(folder: Path) -> Iterator[DiskRecord]:
    """Record, inside this context, every flush of this process and every rename into or within a run's folder.

    Args:
        folder: the run's; it may not exist yet.
    """
    lay = states_in(folder) if folder.exists() else {}
    begun = {folder.absolute() / name: state for name, state in lay.items()}
    record = DiskRecord(folder=folder, begun=begun)
    events = record.events
    fsync, replace, rename = os.fsync, os.replace, os.rename

    def flushing(fd: Any) -> None:
        fsync(fd)
        events.append(Event(thread=threading.get_ident(), state=state_of(os.fstat(fd))))

    def renaming(how: Any) -> Any:
        def renamed(old: Any, new: Any, **where: Any) -> None:
            before, after = Path(old).absolute(), Path(new).absolute()
            if folder.absolute() in after.parents and not where:
                log = folder / METRICS_LOG
                events.append(
                    Event(
                        thread=threading.get_ident(),
                        state=state_of(before.lstat()),
                        old=before,
                        new=after,
                        inside=states_in(before),
                        parent=state_of(after.parent.stat())[0],
                        metrics_log=state_of(log.stat()) if log.exists() else None,
                    )
                )
            how(old, new, **where)

        return renamed

    os.fsync, os.replace, os.rename = flushing, renaming(replace), renaming(rename)
    try:
        yield record
    finally:
        os.fsync, os.replace, os.rename = fsync, replace, rename


def durable(record: DiskRecord) -> int:
    """Return the number of publications; raise LawBroken unless each was flushed first, in a crash-safe order.

    Every file is flushed in its final state before the rename that publishes it; the folder that contains the new name
    is flushed before the same thread renames anything else. In a checkpoint, the manifest is flushed after all other
    files, the folder after the manifest, and metrics.jsonl, in its current state, before the rename. A name that begins
    with a dot publishes nothing, and a file that was published before may be moved. Each file in the folder at the end
    was published in this way or was there before, and was not written to since; only metrics.jsonl is appended to.

    Raises:
        LawBroken: a publication breaks these rules; the message says which.
    """
    flushed: dict[State, int] = {}
    named = set(record.begun)
    published = {state[0]: state for state in record.begun.values()}
    waiting: dict[tuple[int, Key], Path] = {}  # by the thread and the folder
    count = 0
    for at, event in enumerate(record.events):
        if event.old is None or event.new is None:
            flushed[event.state] = at
            waiting.pop((event.thread, event.state[0]), None)
            continue
        for earlier in [path for (thread, _), path in waiting.items() if thread == event.thread]:
            raise LawBroken(f"durable: {earlier} was published, and its folder not flushed before {event.new} came.")
        published |= {state[0]: state for state in event.inside.values()}
        if event.new.name.startswith(".") or event.old in named:  # a temporary name, or a mere move
            continue
        count += 1
        named.add(event.new)
        waiting[event.thread, event.parent] = event.new
        for name, state in event.inside.items():
            if state not in flushed:
                raise LawBroken(f"durable: {event.new}: {name} was not flushed, as it is, before the rename.")
        if MANIFEST in event.inside:
            check_checkpoint(event, flushed)
    for earlier in waiting.values():
        raise LawBroken(f"durable: {earlier} was published, and its folder not flushed after that.")
    check_left(record.folder, published)
    return count


def check_checkpoint(event: Event, flushed: dict[State, int]) -> None:
    """Raise LawBroken if a checkpoint's manifest is not the last file, or refers to a log that is not flushed."""
    times = {name: flushed[state] for name, state in event.inside.items()}
    for name, when in times.items():
        if name not in (MANIFEST, ".") and when > times[MANIFEST]:
            raise LawBroken(f"durable: {event.new}: {name} was flushed after {MANIFEST}, which vouches for it.")
    if times["."] < times[MANIFEST]:
        raise LawBroken(f"durable: {event.new}: the folder was flushed before {MANIFEST} stood in it.")
    if event.metrics_log is not None and event.metrics_log not in flushed:
        raise LawBroken(f"durable: {event.new} was published before {METRICS_LOG}, to which it refers, was flushed.")


def check_left(folder: Path, published: dict[Key, State]) -> None:
    """Raise LawBroken if a file under a final name was not published, or was written to since."""
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if hidden or not stat.S_ISREG(path.lstat().st_mode):
            continue
        state = state_of(path.stat())
        if state[0] not in published:
            raise LawBroken(f"durable: {path} was written under its final name, and not renamed.")
        if path.name != METRICS_LOG and published[state[0]] != state:
            raise LawBroken(f"durable: {path} was written to after it was published.")
