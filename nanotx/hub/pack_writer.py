"""Pack a run to hand on: its weights without the optimizer's state, and all that is needed to use and to judge them.

A pack is a folder, or one zip file in which the files are stored as they are. `runs/pack_reader.py` reads it.
"""

import json
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

import nanotx
from nanotx import disk
from nanotx.config.registry import LoadedFile
from nanotx.config.toml import write_toml
from nanotx.errors import ConfigError, RunError
from nanotx.files import read_regular
from nanotx.hub.card import Manifest, card
from nanotx.hub.drafts import draft_of, is_occupied, publish
from nanotx.nn.buffers import Buffers
from nanotx.nn.canonical import to_canonical
from nanotx.runs import pack_reader, valid
from nanotx.runs.checkpoint import MANIFEST, digest, holds_only, listed
from nanotx.runs.folder import PACK
from nanotx.runs.formats import FORMAT
from nanotx.runs.load import LoadedRun
from nanotx.runs.loaded_files import KEY, RecordedFile, to_record

Files = dict[str, bytes | dict[str, Tensor]]
"""Files by name: bytes, or tensors, which are written as safetensors without a copy of them all."""

BESIDE = ("metrics.jsonl", "summary.json", "report.html")
"""Files of a run that a pack takes as they are, where they exist."""

TIME = (1980, 1, 1, 0, 0, 0)
"""The time of every member of a zip file, so that the same run gives the same bytes."""


def write_pack(
    run: LoadedRun, target: Path, plugins: Sequence[LoadedFile] = (), overwrite: bool = False, origin: str = ""
) -> dict[str, int]:
    """Write a pack that appears complete or not at all, and return the sizes of its files in bytes.

    Args:
        run: the run, loaded.
        target: a zip file, where the name ends in .zip; otherwise a folder.
        plugins: files that registered parts of the run; they are packed as data.
        overwrite: replace a pack that is there already.
        origin: what the model was converted from, where nanotx did not train it.

    Raises:
        ConfigError: something is there already, or a plug-in's file has a name that no pack holds.
        RunError: a file cannot be read or written; nothing new is left under the target's name.
    """
    check_target(target, overwrite)
    files = pack_files(run, plugins, origin)
    temporary = draft_of(target)
    zipped = temporary.with_name(f"{temporary.name}.zip")
    try:
        write_folder(temporary, run, files, origin)
        sizes = {file.name: file.stat().st_size for file in sorted(temporary.iterdir())}
        if target.suffix == ".zip":
            disk.write(zipped, lambda path: write_zip(path, temporary))
            disk.sync(zipped)
            with pack_reader.opened(zipped):  # its members are compared with the manifest before it gets its name
                publish(zipped, target)
        else:  # the manifest has the digests of these files as they were read back
            publish(temporary, target)
    except OSError as error:
        raise RunError(f"{target}: cannot be written: {error.strerror or error}; try another path.") from None
    finally:
        with suppress(OSError):
            disk.remove(temporary)
            disk.remove(zipped)
    return sizes


def write_folder(folder: Path, run: LoadedRun, files: Files, origin: str) -> None:
    """Write the files of a pack into a new folder, with their manifest and the card."""
    disk.make(folder)
    manifest = Manifest()
    for name, content in files.items():
        disk.write(folder / name, partial(save, content) if isinstance(content, dict) else content)
        disk.sync(folder / name)
        manifest[name] = {"bytes": (folder / name).stat().st_size, "sha256": digest(folder / name)}
    summary = files.get("summary.json", b"")
    text = card(run_name(run), run, manifest, summary if isinstance(summary, bytes) else b"", origin)
    for name, data in {pack_reader.CARD: text.encode("utf-8"), MANIFEST: as_json(manifest)}.items():
        disk.write(folder / name, data)
        disk.sync(folder / name)
    disk.sync(folder)


def save(tensors: dict[str, Tensor], path: Path) -> None:
    """Write tensors as a safetensors file."""
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path, {"format": "pt"})


def check_target(target: Path, overwrite: bool) -> None:
    """Raise ConfigError unless nothing is there, or a pack that may be replaced."""
    if not is_occupied(target, overwrite, "mine.zip"):
        return
    if target.is_dir() and holds_only(target, {pack_reader.CARD} | listed(target)) and (target / PACK).is_file():
        return
    if target.is_file() and not target.is_symlink() and target.suffix == ".zip":
        with pack_reader.opened(target):
            return
    raise ConfigError(f"{target}: no pack, or one with other files in it, so it is not replaced; choose another path.")


def write_zip(path: Path, folder: Path) -> None:
    """Write the files of a folder into a zip file as they are: stored, at one time, readable by all."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(folder.iterdir()):
            member = zipfile.ZipInfo(file.name, TIME)
            member.external_attr = 0o100644 << 16
            member.file_size = file.stat().st_size
            with file.open("rb") as source, archive.open(member, "w") as copy:
                shutil.copyfileobj(source, copy)


# What a pack holds.


def pack_files(run: LoadedRun, plugins: Sequence[LoadedFile] = (), origin: str = "") -> Files:
    """Return the files of a pack by name, but for the manifest and the card."""
    about = {
        "format": FORMAT,
        "nanotx": nanotx.__version__,
        "name": run_name(run),
        "step": run.step,
        "parameters": run.model.parameter_count,
        "corpus_sha256": run.corpus_sha256,
        "tokenizer_sha256": run.tokenizer.digest,
    }
    own_files, recorded = plugin_files(plugins)
    if recorded:
        about[KEY] = to_record(recorded)
    files: Files = {
        "model.safetensors": to_canonical(run.model, dict(run.model.named_parameters())),
        "recipe.toml": write_toml(run.recipe).encode("utf-8"),
        "tokenizer.json": run.tokenizer.to_json().encode("utf-8"),
        PACK: as_json(about),
    }
    if buffers := Buffers(run.model).saved():
        files[valid.BUFFERS] = buffers
    return files | own_files if origin else files | beside(Path(run.folder)) | own_files


def run_name(run: LoadedRun) -> str:
    """Return the name of a run's folder."""
    return Path(run.folder).resolve().name


def as_json(table: Mapping[str, object]) -> bytes:
    """Return a table as the text of a JSON file."""
    return (json.dumps(table, indent=1, allow_nan=False) + "\n").encode("utf-8")


def beside(folder: Path) -> Files:
    """Return the files of a run that a pack takes as they are.

    Raises:
        RunError: one of them cannot be read.
    """
    files = Files()
    for path in (folder / name for name in BESIDE):
        if path.exists() or path.is_symlink():
            valid.size(path)  # a link may lead anywhere
            try:
                files[path.name] = read_regular(path)
            except OSError as error:
                raise RunError(f"{path}: cannot be read: {error.strerror}.") from None
    return files


def plugin_files(plugins: Sequence[LoadedFile]) -> tuple[Files, list[RecordedFile]]:
    """Return files of the user's own under the names that a pack gives them, and what the pack records of them.

    Raises:
        ConfigError: the name of one of them is not plain, or two have the same.
    """
    files, recorded = Files(), []
    for plugin in dict.fromkeys(plugins):
        name = f"plugin-{plugin.path.name}"
        if not pack_reader.PLUGIN.fullmatch(name) or name in files:
            raise ConfigError(
                f"--load {plugin.path}: a pack holds plug-ins by name, once each, in letters, digits, - and _."
            )
        files[name] = plugin.content
        recorded.append(RecordedFile(name=plugin.path.name, sha256=plugin.sha256, copy=name, parts=plugin.parts))
    return files, recorded
