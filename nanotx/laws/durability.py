"""What a process did to the disk, recorded, and the order in which it has to be done so that a power cut loses nothing.

The record is taken where Python meets the system: which state of a file was flushed, and what lay under a name when it
was renamed. So it holds for any code, however that is arranged.
"""

import os
import stat
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

MANIFEST, JOURNAL = "MANIFEST.json", "metrics.jsonl"


@dataclass(frozen=True, kw_only=True)
class Event:
    """A flush, or a rename."""

    state: State  # of what was flushed or renamed
    old: Path | None = None  # of a rename
    new: Path | None = None
    inside: dict[str, State] = field(default_factory=dict)  # of what was renamed: all files and folders in it
    parent: Key = (0, 0)  # of a rename: the folder in which the new name stands
    journal: State | None = None  # of a rename: the run's journal at that moment


@dataclass(frozen=True, kw_only=True)
class DiskRecord:
    """What a process did to a run's folder."""

    folder: Path
    begun: dict[Path, State]  # what lay there before
    events: list[Event] = field(default_factory=list)


def state_of(found: os.stat_result) -> State:
    """What a file is now."""
    return (found.st_dev, found.st_ino), found.st_size, found.st_mtime_ns


def states_in(path: Path) -> dict[str, State]:
    """The files and folders below a path, by their relative names; `.` is itself."""
    found = {".": state_of(path.stat())}
    if path.is_dir():
        found |= {below.relative_to(path).as_posix(): state_of(below.lstat()) for below in path.rglob("*")}
    return found


@contextmanager
def disk_record(folder: Path) -> Iterator[DiskRecord]:
    """Within, every flush of this process is recorded, and every rename into a run's folder or within it.

    Args:
        folder: the run's, which need not be there yet.
    """
    lay = states_in(folder) if folder.exists() else {}
    begun = {folder.absolute() / name: state for name, state in lay.items()}
    record = DiskRecord(folder=folder, begun=begun)
    events = record.events
    fsync, replace, rename = os.fsync, os.replace, os.rename

    def flushing(fd: Any) -> None:
        fsync(fd)
        events.append(Event(state=state_of(os.fstat(fd))))

    def renaming(how: Any) -> Any:
        def renamed(old: Any, new: Any, **where: Any) -> None:
            before, after = Path(old).absolute(), Path(new).absolute()
            if folder.absolute() in after.parents and not where:
                journal = folder / JOURNAL
                events.append(
                    Event(
                        state=state_of(before.lstat()),
                        old=before,
                        new=after,
                        inside=states_in(before),
                        parent=state_of(after.parent.stat())[0],
                        journal=state_of(journal.stat()) if journal.exists() else None,
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
    """What a run left was flushed before it was published, in the order that a power cut at any moment asks for.

    Every file is flushed as it is before the rename that publishes it; the folder in which the new name stands is
    flushed before anything else is renamed; of a checkpoint, the manifest is flushed after all other files, the folder
    after the manifest, and the journal, as it is, before the rename. A name that begins with a dot publishes nothing,
    and what was published before may be moved. What lies in the folder at the end was published so or lay there before,
    and was not written to since; only the journal is appended to. Returns how many publications there were.

    Raises:
        LawBroken: one was otherwise; says which.
    """
    flushed: dict[State, int] = {}
    named = set(record.begun)
    published = {state[0]: state for state in record.begun.values()}
    waiting: dict[Key, Path] = {}
    count = 0
    for at, event in enumerate(record.events):
        if event.old is None or event.new is None:
            flushed[event.state] = at
            waiting.pop(event.state[0], None)
            continue
        for earlier in waiting.values():
            raise LawBroken(f"durable: {earlier} was published, and its folder not flushed before {event.new} came.")
        published |= {state[0]: state for state in event.inside.values()}
        if event.new.name.startswith(".") or event.old in named:  # a temporary name, or what is only moved
            continue
        count += 1
        named.add(event.new)
        waiting[event.parent] = event.new
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
    """Raise LawBroken where a checkpoint's manifest is not the last, or it refers to a journal that is not flushed."""
    times = {name: flushed[state] for name, state in event.inside.items()}
    for name, when in times.items():
        if name not in (MANIFEST, ".") and when > times[MANIFEST]:
            raise LawBroken(f"durable: {event.new}: {name} was flushed after {MANIFEST}, which vouches for it.")
    if times["."] < times[MANIFEST]:
        raise LawBroken(f"durable: {event.new}: the folder was flushed before {MANIFEST} stood in it.")
    if event.journal is not None and event.journal not in flushed:
        raise LawBroken(f"durable: {event.new} was published before {JOURNAL}, to which it refers, was flushed.")


def check_left(folder: Path, published: dict[Key, State]) -> None:
    """Raise LawBroken where a file under a final name was not published, or was written to since."""
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if hidden or not stat.S_ISREG(path.lstat().st_mode):
            continue
        state = state_of(path.stat())
        if state[0] not in published:
            raise LawBroken(f"durable: {path} was written under its final name, and not renamed.")
        if path.name != JOURNAL and published[state[0]] != state:
            raise LawBroken(f"durable: {path} was written to after it was published.")
