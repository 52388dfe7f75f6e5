"""Finished runs of a second as values, the bytes of their files, and ways to change them."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

from signing import signed

from nanotx.selftest import Broken, child, tiny_runs

Files = Mapping[str, bytes]
"""The files of a folder, by their paths in it."""
Change = Callable[[dict[str, bytes]], Files]

SHORT: dict[str, object] = {
    "train_steps": 6,
    "train_eval_every": 3,
    "train_sample_every": 3,
    "train_checkpoint_every": 2,
}
NEWEST = "checkpoints/step-6"
CHARACTERS = "abcde \n"
"""Those of the text that a run learns from."""


def training(*argv: str, **others: object) -> tuple[str, ...]:
    """Return the arguments of a run of a second, some flags changed: `train_steps=9` is `--train.steps 9`."""
    return (*tiny_runs.arguments(tiny_runs.KIND, **(SHORT | others)), "--run", "run", *argv)


@cache
def specimen(tokenizer: str = "char") -> Files:
    """Return the files of such a run, which is trained once per process.

    Raises:
        Broken: the run failed.
    """
    with TemporaryDirectory() as place:
        home = Path(place, "home")
        home.mkdir()
        tiny_runs.write_corpus(home)
        ended = child.run(training("--tokenizer", tokenizer), home)
        if ended.code != 0:
            raise Broken(f"a run of a second ended with {ended.code}: {ended.err or ended.out}")
        return read_files(home / "run")


def write_files(folder: Path, files: Files) -> None:
    """Write files into a folder."""
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


def read_files(folder: Path) -> dict[str, bytes]:
    """Read the plain files of a folder, except Python's caches and a run's lock; an unreadable one as empty."""
    files = {file.relative_to(folder): file for file in sorted(folder.rglob("*")) if file.is_file()}
    ours = {name: file for name, file in files.items() if "__pycache__" not in name.parts and name.name != ".lock"}
    return {name.as_posix(): file.read_bytes() if os.access(file, os.R_OK) else b"" for name, file in ours.items()}


# Digests made to fit again, so that a change is judged by what it says and not by its digest.


def fix_manifests(files: Files) -> dict[str, bytes]:
    """Return a run's files with manifests that fit the checkpoints."""
    fixed = dict(files)
    for manifest in [name for name in files if name.endswith("/MANIFEST.json")]:
        place = manifest.removesuffix("MANIFEST.json")
        inside = {name.removeprefix(place): data for name, data in files.items() if name.startswith(place)}
        sums = {
            name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in inside.items()
            if name != "MANIFEST.json"
        }
        fixed[manifest] = json.dumps(sums, indent=1).encode("ascii")
    return fixed


def fix_tokenizers(files: Files) -> dict[str, bytes]:
    """Return files with tokenizer digests that fit, in the tokenizers and in the checkpoints beside them."""
    fixed = dict(files)
    for name in [name for name in files if name.endswith("tokenizer.json")]:
        try:
            table = signed(json.loads(files[name]))
            fixed[name] = json.dumps(table).encode("ascii")
            trainer = name.replace("tokenizer.json", "trainer.json")
            state = json.loads(fixed[trainer]) | {"tokenizer": {key: table[key] for key in ("part", "sha256")}}
            fixed[trainer] = json.dumps(state).encode("ascii")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
    return fixed


# A folder with such a run, changed.


def ran(change: Change = dict, tokenizer: str = "char") -> Callable[[Path], None]:
    """Write a finished run with its files changed, the text it learned from, a second run and an empty folder."""
    return partial(write_changed, change=change, tokenizer=tokenizer)


def write_changed(folder: Path, change: Change, tokenizer: str) -> None:
    """See `ran`."""
    tiny_runs.write_corpus(folder)
    write_files(folder, {"short.txt": b"abc"})
    write_files(folder / "run", change(dict(specimen(tokenizer))))
    write_files(folder / "other", specimen("byte"))
    (folder / "empty").mkdir()


def without(*parts: str) -> Change:
    """Leave out the files with these words in their names."""
    return lambda files: {name: data for name, data in files.items() if not any(part in name for part in parts)}


def put(name: str, data: bytes) -> Change:
    """Replace one file."""
    return lambda files: files | {name: data}


def stating(key: str, value: object, fix: bool = True) -> Change:
    """Change a value in the newest checkpoint's trainer.json; `fix` its manifest to fit."""

    def change(files: dict[str, bytes]) -> Files:
        state = json.loads(files[f"{NEWEST}/trainer.json"]) | {key: value}
        changed = files | {f"{NEWEST}/trainer.json": json.dumps(state).encode("ascii")}
        return fix_manifests(changed) if fix else changed

    return change


def exchanged(files: dict[str, bytes]) -> Files:
    """Replace the run's tokenizer by that of another run."""
    return files | {"tokenizer.json": specimen("byte")["tokenizer.json"]}


def broken(files: dict[str, bytes]) -> Files:
    """Cut the last byte off the weights of every checkpoint."""
    return {name: data[:-1] if name.endswith("model.safetensors") else data for name, data in files.items()}
