"""The kinds of files that are fuzzed; each file is a pure function of kind, seed and number."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from reliability import random_recipes, readings
from reliability.damage import of_bytes, of_json, of_lines, of_tensors
from reliability.readings import Reading
from reliability.specimens import Files, fix_manifests, fix_tokenizers, specimen, write_files

from nanotx.selftest import tiny_runs
from nanotx.tokenizers import Tokenizer

TRAINED = {"char": {}, "byte": {}, "bpe": {"vocab_size": 262}, "word": {"vocab_size": 20, "unknown": True}} | {
    name: {"vocab_size": 20} for name in ("wordpiece", "unigram")
}


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What is written, and the functions that read it."""

    name: str
    sound: Callable[[], Files]  # the undamaged files, made once
    write: Callable[[Path, Random, Files], None]  # into an empty folder
    readings: tuple[Reading, ...]


def write(kind: str, seed: int, number: int, folder: Path, sound: Files) -> None:
    """Empty a folder and write one file of a kind into it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    KINDS[kind].write(folder, Random(f"{seed} {kind} {number}"), sound)


def a_recipe(folder: Path, draw: Random, sound: Files) -> None:
    """Write a recipe in TOML, and flags."""
    argv = ["mine.toml", *random_recipes.flags(draw)]
    write_files(folder, {"mine.toml": random_recipes.text(draw), "words.json": json.dumps(argv).encode("ascii")})


def a_run(folder: Path, draw: Random, sound: Files) -> None:
    """Write a small run with one to three damaged files, and make its digests fit half the time."""
    files = dict(sound)
    steps = sorted({Path(name).parts[1] for name in files if "/" in name})
    older = tuple(f"checkpoints/{step}/" for step in steps[:-1])
    read = [name for name in sorted(files) if not name.startswith(older) or draw.random() < 0.1]
    for name in draw.sample(read, draw.choice([1, 1, 1, 2, 3])):
        files[name] = damaged(name, files[name], draw)
    if draw.random() < 0.5:
        files = fix_manifests(fix_tokenizers(files) if draw.random() < 0.5 else files)
    tiny_runs.write_corpus(folder)
    write_files(folder / "run", files)


def damaged(name: str, data: bytes, draw: Random) -> bytes:
    """Damage a file of a run in its bytes or in what its format says."""
    by_kind = {".json": of_json, ".toml": of_lines, ".safetensors": of_tensors}
    damage = by_kind.get(Path(name).suffix, of_bytes) if draw.random() < 0.75 else of_bytes
    if name.endswith(".jsonl") and draw.random() < 0.75:
        lines = data.split(b"\n")
        at = draw.randrange(len(lines))
        return b"\n".join([*lines[:at], of_json(lines[at], draw), *lines[at + 1 :]])
    return damage(data, draw)


def a_tokenizer(folder: Path, draw: Random, sound: Files) -> None:
    """Write a damaged tokenizer of some part, and make its digest fit half the time."""
    data = (of_json if draw.random() < 0.75 else of_bytes)(sound[draw.choice(sorted(sound))], draw)
    if draw.random() < 0.5:
        data = fix_tokenizers({"tokenizer.json": data, "trainer.json": b"{}"})["tokenizer.json"]
    write_files(folder, {"mine.json": data})


@cache
def trained() -> Files:
    """Train a tokenizer of each part that needs no library; return their files."""
    files = {}
    with TemporaryDirectory() as place:
        tiny_runs.write_corpus(Path(place))
        text = Path(place, "text.txt").read_text(encoding="utf-8")
        for name, fields in TRAINED.items():
            Tokenizer.find(name)(**fields).train([text]).save(Path(place, "x.json"))
            files[name] = Path(place, "x.json").read_bytes()
    return files


KINDS = {
    kind.name: kind
    for kind in (
        Kind(name="recipes", sound=dict, write=a_recipe, readings=(readings.recipe,)),
        Kind(name="runs", sound=specimen, write=a_run, readings=(readings.sample, readings.show, readings.resume)),
        Kind(name="tokenizers", sound=trained, write=a_tokenizer, readings=(readings.tokenizer,)),
    )
}
