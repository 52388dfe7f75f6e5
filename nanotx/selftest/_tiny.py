"""A run that takes a second and ends, and what it leaves as a value: the bytes of its files."""

import hashlib
import json
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from nanotx.selftest import Broken, child, small

Files = Mapping[str, bytes]
"""What lies in a folder, by its place there."""

SHORT: dict[str, object] = {
    "train_steps": 6,
    "train_eval_every": 3,
    "train_sample_every": 3,
    "train_checkpoint_every": 2,
}
LETTERS = "abcde \n"
"""Of the text that it learns from."""


def training(*argv: str, **others: object) -> tuple[str, ...]:
    """What is typed behind `nanotx` for such a run, some flags otherwise: `train_steps=9` is `--train.steps 9`."""
    return (*small.argv(small.KIND, **(SHORT | others)), "--run", "run", *argv)


@cache
def specimen(tokenizer: str = "char") -> Files:
    """The files of such a run, made once.

    Raises:
        Broken: it could not be made.
    """
    with TemporaryDirectory() as place:
        home = Path(place, "home")
        home.mkdir()
        small.text(home)
        ended = child.run(training("--tokenizer", tokenizer), home)
        if ended.code != 0:
            raise Broken(f"a run of a second ended with {ended.code}: {ended.err or ended.out}")
        return lying(home / "run")


def lay(folder: Path, files: Files) -> None:
    """Write files into a folder."""
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


def lying(folder: Path) -> dict[str, bytes]:
    """The plain files in a folder, but for what Python compiled and for a run's lock."""
    found = {file.relative_to(folder): file for file in sorted(folder.rglob("*")) if file.is_file()}
    ours = {name: file for name, file in found.items() if "__pycache__" not in name.parts and name.name != ".lock"}
    return {name.as_posix(): file.read_bytes() if os.access(file, os.R_OK) else b"" for name, file in ours.items()}


def mended(files: Files) -> dict[str, bytes]:
    """A run's files with manifests of its checkpoints that fit what lies in them."""
    found = dict(files)
    for manifest in [name for name in files if name.endswith("/MANIFEST.json")]:
        place = manifest.removesuffix("MANIFEST.json")
        inside = {name.removeprefix(place): data for name, data in files.items() if name.startswith(place)}
        sums = {
            name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in inside.items()
            if name != "MANIFEST.json"
        }
        found[manifest] = json.dumps(sums, indent=1).encode("ascii")
    return found
