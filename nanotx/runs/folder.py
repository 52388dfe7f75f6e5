"""A run's folder: the paths of its files, and the lock that lets one process at a time write there.

The operating system holds the lock and releases it however the process ends, so no stale lock is left.
"""

import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from difflib import SequenceMatcher
from pathlib import Path
from zipfile import is_zipfile

from filelock import FileLock, Timeout

from nanotx.errors import ConfigError, RunError, shell_quoted
from nanotx.files import DESKTOP_FILES, read_regular, write_atomic

PACK = "pack.json"
"""The file that tells a pack from a run: its format, its step, and the digests of corpus and tokenizer."""


class RunFolder:
    """The paths of the files in a run's folder."""

    def __init__(self, path: Path) -> None:
        """Set the paths.

        Raises:
            RunError: the folder's name is not UTF-8; weights and recipes cannot be written there.
        """
        try:
            str(path).encode("utf-8")
        except UnicodeEncodeError:
            raise RunError(f"{str(path)!a}: this name is not UTF-8; rename the folder.") from None
        self.path = path
        self.recipe = path / "recipe.toml"  # the resolved recipe
        self.tokenizer = path / "tokenizer.json"  # the trained tokenizer
        self.metrics = path / "metrics.jsonl"  # the metrics log, a row per line
        self.checkpoints = path / "checkpoints"  # a folder per checkpoint
        self.samples = path / "samples.txt"  # every text sampled during training
        self.summary = path / "summary.json"  # results
        self.report = path / "report.html"  # all of it as a page
        self.code = path / "code"  # copies of the files that --load imported

    @property
    def files(self) -> list[Path]:
        """All files that a run writes, the largest first."""
        own = [self.checkpoints, self.metrics, self.samples, self.summary, self.tokenizer, self.recipe]
        return [*own, self.path / "speedrun.json", self.report, self.code]

    @property
    def is_run(self) -> bool:
        """Return whether the folder is a run, or what is left of one; a pack is none."""
        own = (self.recipe, self.metrics, self.checkpoints)
        return not is_pack(self.path) and any(path.exists() or path.is_symlink() for path in own)

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


def is_pack(path: Path) -> bool:
    """Return whether a path is a pack (`pack_reader.py`): a folder with a pack.json, or a zip file."""
    try:
        return (path / PACK).is_file() or (path.is_file() and (path.suffix == ".zip" or is_zipfile(path)))
    except (OSError, ValueError):
        return False


def not_a_run(folder: str | Path, file: str = "recipe.toml") -> RunError:
    """Return the error of a path that is no run, with the run that was probably meant.

    Args:
        folder: the path.
        file: the file that a run would have.
    """
    if is_pack(Path(folder)) and file == "metrics.jsonl":
        return RunError(f"{folder}: a pack without {file}, as of an imported model: there is nothing to draw.")
    if is_pack(Path(folder)):
        return RunError(
            f"{folder}: expected a run, got a pack, whose weights come without the state of the training: it cannot be "
            "trained further or verified. Use the run that it was made from; sample, eval, look, show and export take "
            "a pack."
        )
    return RunError(f"{folder}: expected a run's folder, with a {file} in it.{run_meant(Path(folder))}")


def run_meant(path: Path) -> str:
    """Return the run that a path was probably meant to name, as a sentence after a space."""
    with suppress(OSError, RunError):
        for parent in list(path.parents)[:3]:
            if parent.name and RunFolder(parent).is_run:
                step = path.name.removeprefix("step-")
                flag = f" --step {step}" if path.parent.name == "checkpoints" and step.isdecimal() else ""
                return f" It belongs to the run {parent}: try {shell_quoted(parent)}{flag}."
        if inside := runs_in(path):
            return f" It holds runs: try {shell_quoted(inside[0])}."
        runs = list({run.resolve(): run for folder in ("runs", path.parent) for run in runs_in(Path(folder))}.values())
        runs.sort(key=lambda run: run.stat().st_mtime, reverse=True)
        near = min(runs, key=lambda run: unlikeness(path.name, run.name), default=None)
        if near and unlikeness(path.name, near.name) < UNRELATED:
            return f" Did you mean {shell_quoted(near)}?"
        if runs:
            return f" The newest run here is {shell_quoted(runs[0])}."
    return " nanotx train NAME makes one in the folder runs; nanotx train --help lists the names."


UNRELATED = (3, 0.0)
"""Unlikeness of two names from which one was hardly meant for the other."""


def unlikeness(typed: str, name: str) -> tuple[int, float]:
    """Return how unlike the name of a run is to what was typed: a class of likeness, then a number within it.

    The same name in another folder is nearest; then a spelling that differs in a few characters, the fewest first; then
    a run of the same recipe, and a name of which the other is the beginning; then a name of mostly the same characters.
    Runs that are equally near keep their order, in which the newest is first.
    """
    if not typed:
        return UNRELATED
    typed, name = typed.casefold(), name.casefold()
    stem, _, number = typed.rpartition("-")
    recipe = stem if stem and number.isdecimal() else typed
    if typed == name:
        return 0, 0.0
    if name.rpartition("-")[0] == recipe:  # the number is wrong or missing
        return 1, 0.0
    ratio = SequenceMatcher(None, typed, name, autojunk=False).ratio()
    if ratio >= 0.8:
        return 1, 1 - ratio
    if name.startswith(recipe) or recipe.startswith(name):
        return 2, 0.0
    return (2, 1 - ratio) if ratio >= 0.6 else UNRELATED


def runs_in(folder: Path) -> list[Path]:
    """Return the runs in a folder, the newest first."""
    runs = [path for path in folder.iterdir() if path.is_dir() and RunFolder(path).is_run] if folder.is_dir() else []
    return sorted(runs, key=lambda run: run.stat().st_mtime, reverse=True)


def find_folder(named: str, name: str, resume: bool) -> RunFolder:
    """Return the folder of a run: the one named; else the newest `runs/<name>-<n>` to resume or restart; else the next.

    Raises:
        ConfigError: the folder is not empty, and is not a run to resume.
        RunError: a folder of this name cannot be created.
    """
    if named:
        folder = RunFolder(Path(named))
        try:
            occupied, is_run = folder.exists, folder.is_run
        except OSError as error:
            raise RunError(f"{named}: cannot be written: {error.strerror}; try another --run.") from None
        if occupied and not (resume and is_run):
            hint = (
                "it is not a run; choose another folder"
                if resume or not is_run
                else f"continue the run with --resume (in Python, resume=True), or choose another, such as "
                f"{named.rstrip('/')}-2"
            )
            raise ConfigError(f"--run {named}: already exists: {hint}.")
        return folder
    taken = [
        int(path.name.removeprefix(f"{name}-"))
        for path in Path("runs").glob(f"{name}-*")
        if path.name.removeprefix(f"{name}-").isdecimal()
    ]
    newest = max(taken, default=0)
    return RunFolder(Path("runs") / f"{name}-{newest if resume and newest else newest + 1}")


LONGEST = 1 << 12
"""Maximal size of the file that names the owner of a run, in bytes."""


def owner_of(file: Path) -> str:
    """Return the description that the owner of a run wrote; "another process" if it cannot be read."""
    try:
        return read_regular(file, LONGEST).decode("utf-8", "replace")
    except OSError:
        return "another process"


def identity(file: Path) -> tuple[int, int] | None:
    """Return what identifies the file of a name; None if there is no such file, or that is unknown."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def user_of(folder: Path) -> str:
    """Return the process that holds the lock of a run's folder; empty if there is none, or that is unknown."""
    if not (folder / ".lock").is_file():
        return ""
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return owner_of(folder / ".owner").rstrip(",")
    except (OSError, NotImplementedError):
        return ""
    lock.release()
    return ""


@contextmanager
def locked(folder: Path) -> Iterator[Callable[[], None]]:
    """Hold the lock of a run's folder, which must exist.

    Yield a check that raises RunError if the folder was moved or removed and another run has taken its name.

    Raises:
        RunError: another process holds the lock; says which.
    """
    owner = folder / ".owner"
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        name = owner_of(owner)
        raise RunError(f"{folder}: {name} is using this run; wait for it, stop it, or choose another --run.") from None
    except NotImplementedError:  # the file system, such as that of another machine, has no locks
        yield lambda: None
        return
    held = identity(folder / ".lock")

    def check() -> None:
        if (current := identity(folder / ".lock")) is not None and current != held:
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
            check()  # otherwise the file belongs to the other run
            owner.unlink()
        lock.release()
