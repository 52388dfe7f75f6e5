"""A run of a second that has ended, changed by whoever came across it."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

from nanotx.selftest import small
from nanotx.selftest._bad import Prepare
from nanotx.selftest._tiny import Files, lay, mended, specimen

Change = Callable[[dict[str, bytes]], Files]
LAST = "checkpoints/step-6"


def ran(change: Change = dict, tokenizer: str = "char") -> Prepare:
    """Prepare by a run of a second that has ended, its files changed, beside its text."""
    return partial(write, change=change, tokenizer=tokenizer)


def write(folder: Path, change: Change, tokenizer: str) -> None:
    """See `ran`."""
    small.text(folder)
    lay(folder, {"short.txt": b"abc"})
    lay(folder / "run", change(dict(specimen(tokenizer))))
    lay(folder / "other", specimen("byte"))
    (folder / "empty").mkdir()


def without(*parts: str) -> Change:
    """The files but for some, by parts of their names."""
    return lambda files: {name: data for name, data in files.items() if not any(one in name for one in parts)}


def put(name: str, data: bytes) -> Change:
    """The files, and one in the place of another."""
    return lambda files: files | {name: data}


def saying(key: str, value: object, mend: bool = True) -> Change:
    """The newest checkpoint's trainer.json says something else, with a manifest that fits."""

    def change(files: dict[str, bytes]) -> Files:
        state = json.loads(files[f"{LAST}/trainer.json"]) | {key: value}
        found = files | {f"{LAST}/trainer.json": json.dumps(state).encode("ascii")}
        return mended(found) if mend else found

    return change


def exchanged(files: dict[str, bytes]) -> Files:
    """The tokenizer of another run lies in the run's folder."""
    return files | {"tokenizer.json": specimen("byte")["tokenizer.json"]}


def broken(files: dict[str, bytes]) -> Files:
    """No checkpoint is what was saved."""
    return {name: data[:-1] if name.endswith("model.safetensors") else data for name, data in files.items()}
