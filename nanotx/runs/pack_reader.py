"""Read packs: a run to hand on, as a folder or as one zip file; anyone may have made it, so everything is checked.

A pack holds files with known names in one flat folder, and a manifest with the size and the SHA-256 digest of each. In
the zip file they are stored, not compressed. So a member is never larger than the file that holds it, no member has a
path that leads anywhere, and a file is read only after every name, size and kind has been checked.
"""

import errno
import os
import re
import stat
import struct
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nanotx.errors import NanotxError, RunError
from nanotx.files import open_regular
from nanotx.runs import valid
from nanotx.runs.checkpoint import MANIFEST
from nanotx.runs.folder import PACK
from nanotx.runs.formats import check_format

CARD = "README.md"
"""For people; it may be edited, so the manifest does not list it."""

NEEDED = {"model.safetensors", "recipe.toml", "tokenizer.json", PACK}
"""Files that the manifest of every pack lists."""

OPTIONAL = {valid.BUFFERS, "metrics.jsonl", "summary.json", "report.html"}

PLUGIN = re.compile(r"plugin-[A-Za-z0-9_-]{1,64}\.py")
"""Names of the files that registered the parts of the run: data, which nothing here imports."""

MOST_MEMBERS = 64
"""The most files of a pack."""

KINDS: dict[str, type] = {"format": int, "step": int, "corpus_sha256": str, "tokenizer_sha256": str, "nanotx": str}
"""Keys of `PACK` that are read, and their types."""


@contextmanager
def opened(path: Path) -> Iterator[Path]:
    """Yield the folder of a pack whose every file has been verified; that of a zip file is removed afterwards.

    Raises:
        RunError: it is damaged, or holds what no pack holds; the message says what.
    """
    if path.is_dir():
        check_folder(path)
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="nanotx-pack-", ignore_cleanup_errors=True) as folder:
        try:
            extract(path, Path(folder))
            check_folder(Path(folder))
            yield Path(folder)
        except NanotxError as error:  # it names the file that the user knows
            raise type(error)(str(error).replace(folder, str(path))) from None


def check_folder(folder: Path) -> None:
    """Raise RunError unless a folder holds every file of a pack, and each is the one that was packed."""
    for name in valid.read_json(folder / MANIFEST):
        check_name(folder, name)
    valid.verify(folder, NEEDED)


def check_name(pack: Path, name: str) -> None:
    """Raise RunError unless a name is one of a pack's files."""
    if name not in NEEDED | OPTIONAL | {MANIFEST, CARD} and not PLUGIN.fullmatch(name):
        raise RunError(f"{pack}: holds {name[:80]!r}, which no pack holds; nothing was read. Ask for another copy.")


def read_about(folder: Path) -> dict[str, Any]:
    """Return the contents of a pack's pack.json.

    Raises:
        RunError: another version of nanotx wrote it, or it is not of nanotx at all.
    """
    about = valid.read_json(folder / PACK)
    check_format(folder, about.get("format"))
    for key, kind in KINDS.items():
        if not isinstance(about.get(key), kind) or isinstance(about[key], bool):
            raise RunError(f"{folder / PACK}: {key}: expected {kind.__name__}, got {about.get(key)!r:.60}.")
    if about["step"] < 0:
        raise RunError(f"{folder / PACK}: step: expected a number of steps, got {about['step']}.")
    return about


# Zip files.


def extract(path: Path, folder: Path) -> None:
    """Write the members of a zip file into an empty folder, after all of them have been checked.

    Raises:
        RunError: it is not a whole zip file, or one of its members is not a file of a pack.
    """
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            check_members(path, members, os.fstat(file.fileno()).st_size)
            for member in members:
                archive.extract(member, folder)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, struct.error, RuntimeError, ValueError) as error:
        raise RunError(f"{path}: not a whole zip file: {error or 'it ends early'}; ask for another copy.") from None
    except OSError as error:
        reason = "its table is damaged" if error.errno == errno.EINVAL else f"{error.strerror or error}"
        raise RunError(f"{path}: cannot be read: {reason}; ask for another copy.") from None


def check_members(path: Path, members: list[zipfile.ZipInfo], size: int) -> None:
    """Check the table of a zip file before a byte of its members is read.

    Args:
        path: of the file, for messages.
        members: its table.
        size: bytes of the file.

    Raises:
        RunError: a member is foreign, twice there, no plain file, compressed or encrypted, or they claim more bytes
            than the file has.
    """
    if len(members) > MOST_MEMBERS:
        raise RunError(f"{path}: holds {len(members):,} files, and a pack at most {MOST_MEMBERS}; nothing was read.")
    seen = set[str]()
    for member in members:
        name, kind = member.orig_filename, stat.S_IFMT(member.external_attr >> 16)
        check_name(path, name)
        if name in seen:
            raise RunError(f"{path}: holds {name} twice; nothing was read. Ask for another copy.")
        if kind not in (0, stat.S_IFREG):
            raise RunError(f"{path}: {name} is a link or no plain file; nothing was read. Ask for another copy.")
        if (
            member.compress_type != zipfile.ZIP_STORED
            or member.flag_bits & 1
            or member.file_size != member.compress_size
        ):
            raise RunError(f"{path}: {name} is compressed or encrypted, and a pack stores its files as they are.")
        seen.add(name)
    if (claimed := sum(member.file_size for member in members)) > size:
        raise RunError(f"{path}: its files claim {claimed:,} bytes, and it has {size:,}; nothing was read.")
