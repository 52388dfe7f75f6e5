"""The files of each kind of fuzzing, each its own function of seed and number."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from nanotx.selftest import _reading, _recipe_texts, small
from nanotx.selftest._damage import of_bytes, of_json, of_lines, of_tensors
from nanotx.selftest._reading import Reading
from nanotx.selftest._tiny import Files, lay, mended, specimen
from nanotx.tokenizers import Tokenizer

LEARNED = {"char": {}, "byte": {}, "bpe": {"vocab_size": 262}, "word": {"vocab_size": 20, "unknown": True}} | {
    name: {"vocab_size": 20} for name in ("wordpiece", "unigram")
}
HEADER = ("nanotx", "version", "part", "sha256", "made_with", "learned_from")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What is written, and all that reads it."""

    name: str
    sound: Callable[[], Files]  # what it begins with, made once
    write: Callable[[Path, Random, Files], None]  # into an empty folder
    readings: tuple[Reading, ...]


def write(kind: str, seed: int, number: int, folder: Path, sound: Files) -> None:
    """Write one file, its own function of kind, seed and number, into a folder that is then empty but for it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    KINDS[kind].write(folder, Random(f"{seed} {kind} {number}"), sound)


def a_recipe(folder: Path, draw: Random, sound: Files) -> None:
    """A recipe in TOML, and flags."""
    argv = ["mine.toml", *_recipe_texts.flags(draw)]
    lay(folder, {"mine.toml": _recipe_texts.text(draw), "words.json": json.dumps(argv).encode("ascii")})


def a_run(folder: Path, draw: Random, sound: Files) -> None:
    """A small run that is sound but for one file, or a few; half the time its digests fit again."""
    files = dict(sound)
    older = tuple(f"checkpoints/{one}/" for one in sorted({Path(name).parts[1] for name in files if "/" in name})[:-1])
    read = [name for name in sorted(files) if not name.startswith(older) or draw.random() < 0.1]
    for name in draw.sample(read, draw.choice([1, 1, 1, 2, 3])):
        files[name] = damaged(name, files[name], draw)
    if draw.random() < 0.5:
        files = mended(redigested(files) if draw.random() < 0.5 else files)
    small.text(folder)
    lay(folder / "run", files)


def damaged(name: str, data: bytes, draw: Random) -> bytes:
    """A file of a run, damaged as bytes, or in what it says."""
    by_kind = {".json": of_json, ".toml": of_lines, ".safetensors": of_tensors}
    damage = by_kind.get(Path(name).suffix, of_bytes) if draw.random() < 0.75 else of_bytes
    if name.endswith(".jsonl") and draw.random() < 0.75:
        lines = data.split(b"\n")
        at = draw.randrange(len(lines))
        return b"\n".join([*lines[:at], of_json(lines[at], draw), *lines[at + 1 :]])
    return damage(data, draw)


def redigested(files: dict[str, bytes]) -> dict[str, bytes]:
    """The files, with the digests by which tokenizers are known made right, in them and in the checkpoints."""
    found = dict(files)
    for name in [name for name in files if name.endswith("tokenizer.json")]:
        try:
            table = json.loads(files[name])
            known = {"part": table["part"], "sha256": digest(table)}
            found[name] = json.dumps(table | known).encode("ascii")
            beside = name.replace("tokenizer.json", "trainer.json")
            state = json.loads(files[beside]) | {"tokenizer": known}
            found[beside] = json.dumps(state).encode("ascii")
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
    return found


def digest(table: dict[str, object]) -> str:
    """That of a tokenizer's file, whatever it says of itself."""
    inside = {key: item for key, item in table.items() if key not in HEADER}
    return hashlib.sha256(json.dumps([table["part"], inside], sort_keys=True).encode("ascii")).hexdigest()


def a_tokenizer(folder: Path, draw: Random, sound: Files) -> None:
    """A tokenizer of some part, damaged; half the time its digest fits again."""
    data = (of_json if draw.random() < 0.75 else of_bytes)(sound[draw.choice(sorted(sound))], draw)
    if draw.random() < 0.5:
        data = redigested({"tokenizer.json": data, "trainer.json": b"{}"})["tokenizer.json"]
    lay(folder, {"mine.json": data})


@cache
def learned() -> Files:
    """A tokenizer's file for each part that learns by itself."""
    found = {}
    with TemporaryDirectory() as place:
        small.text(Path(place))
        text = Path(place, "text.txt").read_text(encoding="utf-8")
        for name, fields in LEARNED.items():
            Tokenizer.find(name)(**fields).train([text]).save(Path(place, "x.json"))
            found[name] = Path(place, "x.json").read_bytes()
    return found


KINDS = {
    kind.name: kind
    for kind in (
        Kind(name="recipes", sound=dict, write=a_recipe, readings=(_reading.recipe,)),
        Kind(name="runs", sound=specimen, write=a_run, readings=(_reading.sample, _reading.show, _reading.resume)),
        Kind(name="tokenizers", sound=learned, write=a_tokenizer, readings=(_reading.tokenizer,)),
    )
}
