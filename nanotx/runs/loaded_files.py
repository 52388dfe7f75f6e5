"""The files that a run was trained with by `--load`: their names, digests and copies, and whether one has been edited.

Each checkpoint records the files of the process that wrote it, and the run's folder keeps a copy of each in `code`. A
copy is data: nothing imports it unless the user names it by `--load`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nanotx import disk
from nanotx.config.registry import LOADED_FILES, LoadedFile, Slot, file_of
from nanotx.errors import NanotxError, RunError, shell_quoted
from nanotx.files import write_atomic
from nanotx.runs import checkpoint, valid
from nanotx.runs.folder import PACK, RunFolder, is_pack

KEY = "loaded_files"
"""Key of trainer.json, pack.json and summary.json under which the files are recorded."""

SHA256 = re.compile("[0-9a-f]{64}")

UNPLAIN = re.compile(r"[^\w.-]")
"""Characters that the name of a copy does not have, because some system gives them a meaning."""

LONGEST_STEM = 50
"""Maximal number of characters of a copy's name, without its suffix and its number."""


@dataclass(frozen=True, kw_only=True)
class RecordedFile:
    """A file that a run was trained with."""

    name: str  # without its folder
    sha256: str
    copy: str  # name of its copy in the run's folder of code, or in a pack
    parts: tuple[str, ...] = ()  # the parts that it registered, such as norm/peri

    @property
    def only_watches(self) -> bool:
        """Whether it registered callbacks and nothing else; a callback does not change a run."""
        return only_callbacks(self.parts)


@dataclass(frozen=True, kw_only=True)
class Edit:
    """A file that is not the one that a run was trained with."""

    recorded: RecordedFile
    path: Path  # of the file that this process has imported
    sha256: str  # of its content

    def describe(self, folder: Path) -> str:
        """Describe it, and the run in a folder, in a sentence."""
        name, recorded = self.path.name, self.recorded
        other = "the one that" if name == recorded.name else f"{recorded.name}, which"
        digests = f"SHA-256 {self.sha256[:12]}... now, {recorded.sha256[:12]}... then"
        return f"{name} differs from {other} {folder} was trained with: {digests}."


# Recording.


def keep_copies(files: Iterable[LoadedFile], folder: RunFolder) -> list[RecordedFile]:
    """Write a copy of each file into a run's folder, unless it is there already; return what checkpoints record.

    Raises:
        RunError: the folder of the copies is a link, which may lead anywhere.
        OSError: the disk refuses.
    """
    return [
        RecordedFile(name=file.path.name, sha256=file.sha256, copy=kept_copy(file, folder.code), parts=file.parts)
        for file in files
    ]


def kept_copy(file: LoadedFile, code: Path) -> str:
    """Return the name of a file's copy in a folder, which is written if it is not there: mine.py, mine-2.py, ..."""
    if code.is_symlink():
        raise RunError(f"{code}: a link, which may lead out of this run; remove it, and try again.")
    if not code.exists():
        disk.make(code)
    stem = UNPLAIN.sub("_", file.path.stem)[:LONGEST_STEM]
    number, path = 1, code / f"{stem}{file.path.suffix}"
    while path.exists() or path.is_symlink():
        if holds(path, file.sha256):
            return path.name
        number += 1
        path = code / f"{stem}-{number}{file.path.suffix}"
    write_atomic(path, file.content)
    return path.name


def holds(path: Path, sha256: str) -> bool:
    """Return whether a path is a plain file with this digest."""
    try:
        valid.size(path)
        return checkpoint.digest(path) == sha256
    except (RunError, OSError):
        return False


def to_record(files: Iterable[RecordedFile]) -> list[dict[str, Any]]:
    """Return the files as a JSON list."""
    return [asdict(file) for file in files]


def read_record(file: Path, table: Mapping[str, Any]) -> tuple[RecordedFile, ...]:
    """Return the files that the table of a JSON file records; none in a run of an older nanotx.

    Raises:
        RunError: nanotx did not write what the table holds there.
    """
    entries = table.get(KEY, [])
    if not isinstance(entries, list):
        raise RunError(f"{file}: {KEY}: expected a list, got {entries!r:.60}.")
    return tuple(read_entry(file, entry) for entry in entries)


def read_entry(file: Path, entry: Any) -> RecordedFile:
    """Return the file that an entry of a record describes.

    Raises:
        RunError: a value is not what nanotx writes.
    """
    if isinstance(entry, dict) and entry.keys() == RecordedFile.__dataclass_fields__.keys():
        texts, parts = [entry[key] for key in ("name", "sha256", "copy")], entry["parts"]
        listed = isinstance(parts, list) and all(isinstance(part, str) for part in parts)
        if listed and all(isinstance(text, str) for text in texts) and SHA256.fullmatch(texts[1]) and plain(texts[2]):
            return RecordedFile(name=texts[0], sha256=texts[1], copy=texts[2], parts=tuple(parts))
    raise RunError(f"{file}: {KEY}: {entry!r:.120} is not what nanotx writes there.")


def plain(name: str) -> bool:
    """Return whether a text may be the name of a copy; it leads to no other folder."""
    return not UNPLAIN.search(name) and name.strip(".") != ""


# Comparing.


def edits(recorded: Iterable[RecordedFile]) -> list[Edit]:
    """Return the files that differ from those that this process has imported in their place.

    A file that this process has not imported is no edit: a part that is missing is an error of its own. A file that
    registers callbacks alone is none either, because a callback does not change a run.
    """
    loaded, recorded = {file.path: file.sha256 for file in LOADED_FILES.values()}, list(recorded)
    known, edited = {file.sha256 for file in recorded}, []
    for file in recorded:
        path = counterpart(file)
        if path is None or file.sha256 in loaded.values() or (file.only_watches and only_callbacks(parts_in(path))):
            continue
        with suppress(OSError):
            digest = loaded.get(path) or checkpoint.digest(path)
            if digest not in known:  # otherwise it is another recorded file, of the same name
                edited.append(Edit(recorded=file, path=path, sha256=digest))
    return edited


def counterpart(file: RecordedFile) -> Path | None:
    """Return the file that stands for a recorded one in this process: it registers its parts, or has its name."""
    for part in file.parts:
        slot, _, name = part.partition("/")
        families = [family for family in Slot.__subclasses__() if family.slot == slot]
        for registered in (family.registered[name] for family in families if name in family.registered):
            if path := file_of(registered):
                return Path(path)
    return next((path for path in LOADED_FILES if path.name in (file.name, file.copy)), None)


def parts_in(path: Path) -> tuple[str, ...]:
    """Return the parts that a file has registered in this process."""
    return LoadedFile(path=path, content=b"").parts


def only_callbacks(parts: Sequence[str]) -> bool:
    """Return whether there are parts, and all of them are callbacks."""
    return bool(parts) and all(part.startswith("callback/") for part in parts)


# Messages.


def load_flags(recorded: Iterable[RecordedFile], folder: Path) -> str:
    """Return the flags that load the copies that a run keeps, as they are typed; "" if one is not there."""
    paths = [copy_of(file, folder) for file in recorded]
    if None in paths:
        return ""
    return " ".join(f"--load {shell_quoted(path)}" for path in paths if path)


def copy_of(file: RecordedFile, folder: Path) -> Path | None:
    """Return the path of the copy that a run keeps of a file; None if it is not there, or is damaged."""
    path = RunFolder(folder).code / file.copy
    return path if holds(path, file.sha256) else None


def describe_edits(edited: Sequence[Edit], folder: Path) -> tuple[str, ...]:
    """Return a sentence for each edit, and the flags that load what the run was trained with where it keeps a copy.

    Args:
        edited: the edits.
        folder: of the run, or of a pack.
    """
    return tuple(f"{edit.describe(folder)} {describe_copy(edit, folder)}" for edit in edited)


def describe_copy(edit: Edit, folder: Path) -> str:
    """Return how to load the copy that a run keeps, as a sentence."""
    if is_pack(folder):
        return f"The pack holds that one as {edit.recorded.copy}."
    flags = load_flags([edit.recorded], folder)
    return f"The run keeps a copy of that one: {flags}" if flags else "The run keeps no copy of that one."


def with_edits(error: Exception, edited: Sequence[str]) -> str:
    """Return the message of an error, and the sentences about edits that it does not contain yet."""
    return " ".join([str(error), *(sentence for sentence in edited if sentence not in str(error))])


@contextmanager
def naming_edits(edited: Sequence[str]) -> Iterator[None]:
    """Context in which an error says too which files have been edited, because that may be its cause.

    Args:
        edited: a sentence for each edit, of `describe_edits`.
    """
    try:
        yield
    except NanotxError as error:
        raise type(error)(with_edits(error, edited)) from None


def edits_in(folder: Path) -> tuple[str, ...]:
    """Return a sentence for each edit, where a run, a checkpoint or a pack has a record that can be read."""
    with suppress(RunError, OSError):
        path, recorded = read_any_record(folder)
        return describe_edits(edits(recorded), path)
    return ()


def files_wanted(folder: Path) -> str:
    """Return which files a run, a checkpoint or a pack was trained with, as a sentence after a space; "" if unknown."""
    with suppress(RunError, OSError):
        path, recorded = read_any_record(folder)
        wanted = [file for file in recorded if not file.only_watches]
        if wanted:
            names = ", ".join(f"{file.name} (SHA-256 {file.sha256[:12]}...)" for file in wanted)
            if is_pack(path):
                copies = " and ".join(file.copy for file in wanted)
                return f" {path} was trained with {names}, and holds {copies}: read that, then load it from there."
            flags = load_flags(wanted, path)
            copy = f", and keeps a copy: read that, then load it by {flags}" if flags else "."
            return f" {path} was trained with {names}{copy}"
    return ""


def read_any_record(folder: Path) -> tuple[Path, tuple[RecordedFile, ...]]:
    """Return the folder of a run or a pack, and the files that it records.

    Args:
        folder: of the run, of one of its checkpoints, or of a pack.

    Raises:
        RunError: there is no record that can be read.
    """
    if (folder / PACK).is_file():
        return folder, read_record(folder / PACK, valid.read_json(folder / PACK))
    if (folder / "trainer.json").exists():
        return folder.parent.parent, read_record(folder / "trainer.json", valid.read_json(folder / "trainer.json"))
    for path in checkpoint.steps(RunFolder(folder).checkpoints).values():
        return folder, read_record(path / "trainer.json", valid.read_json(path / "trainer.json"))
    return folder, ()
