"""A run's folder: the paths of its files, and the lock that lets one process at a time write there.

The system itself holds the lock, and lets go of it however the process ends: nothing is left to clear away.
"""

import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from nanotx.errors import ConfigError, RunError
from nanotx.files import DESKTOP_FILES, read_regular, write_atomic


class RunFolder:
    """The names of things in a run's folder."""

    def __init__(self, path: Path) -> None:
        """Name them.

        Raises:
            RunError: the folder's name is no UTF-8, which neither weights nor recipes can be written under.
        """
        try:
            str(path).encode("utf-8")
        except UnicodeEncodeError:
            raise RunError(f"{str(path)!a}: this name is not UTF-8; give the run's folder one that is.") from None
        self.path = path
        self.recipe = path / "recipe.toml"  # the resolved recipe
        self.tokenizer = path / "tokenizer.json"  # what it learned
        self.metrics = path / "metrics.jsonl"  # what happened, a row a line
        self.checkpoints = path / "checkpoints"  # a folder each
        self.samples = path / "samples.txt"  # every text it wrote while training
        self.summary = path / "summary.json"  # its figures

    @property
    def files(self) -> list[Path]:
        """All that a run writes there, what is most of it first."""
        own = [self.checkpoints, self.metrics, self.samples, self.summary, self.tokenizer, self.recipe]
        return [*own, self.path / "speedrun.json", self.path / "report.html"]

    @property
    def is_run(self) -> bool:
        """Return whether the folder is a run, or what is left of one."""
        own = (self.recipe, self.metrics, self.checkpoints)
        return any(path.exists() or path.is_symlink() for path in own)

    @property
    def exists(self) -> bool:
        """Return whether the folder holds anything but temporary files and those of file managers."""
        names = [path.name for path in self.path.iterdir()] if self.path.is_dir() else [self.path.name]
        return self.path.exists() and any(not name.startswith(".") and name not in DESKTOP_FILES for name in names)

    def remove_empty(self) -> None:
        """Remove the folder if it holds nothing but the lock and an empty folder of checkpoints."""
        with suppress(OSError):
            (self.path / ".lock").unlink(missing_ok=True)
            if self.checkpoints.is_dir() and not self.checkpoints.is_symlink():
                self.checkpoints.rmdir()
            self.path.rmdir()


def find_folder(named: str, name: str, resume: bool) -> RunFolder:
    """The folder for a run: the one named; or the newest `runs/<name>-<n>` to resume or restart; or the next such.

    Raises:
        ConfigError: there is a run already, and resuming it was not asked for.
        RunError: the system can have no folder of this name.
    """
    if named:
        folder = RunFolder(Path(named))
        try:
            there, is_run = folder.exists, folder.is_run
        except OSError as error:
            raise RunError(f"{named}: cannot be written: {error.strerror}; try another --run.") from None
        if there and not (resume and is_run):
            hint = (
                "that is no run; choose another folder" if resume else "go on with a run by --resume, or choose another"
            )
            raise ConfigError(f"--run {named}: something lies there already: {hint}.")
        return folder
    taken = [
        int(path.name.removeprefix(f"{name}-"))
        for path in Path("runs").glob(f"{name}-*")
        if path.name.removeprefix(f"{name}-").isdecimal()
    ]
    newest = max(taken, default=0)
    return RunFolder(Path("runs") / f"{name}-{newest if resume and newest else newest + 1}")


LONGEST = 1 << 12
"""Bytes of what a process writes of itself, at most."""


def owner_of(file: Path) -> str:
    """What the process that works on a run wrote of itself; of one whose file cannot be read, only that it is one."""
    try:
        return read_regular(file, LONGEST).decode("utf-8", "replace")
    except OSError:
        return "another process"


def identity(file: Path) -> tuple[int, int] | None:
    """Return what identifies the file of a name; None if there is no such file, or that is unknown."""
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
        write_atomic(owner, f"process {os.getpid()} of {platform.node()}, since {now},")
        yield check
    finally:
        with suppress(OSError, RunError):
            check()  # else it is the other run's
            owner.unlink()
        lock.release()
