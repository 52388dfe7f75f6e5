"""Every way in which nanotx reads an untrusted file."""

import json
import runpy
import sys
import tomllib
from collections.abc import Callable
from contextlib import chdir
from dataclasses import replace
from pathlib import Path

from nanotx.config.schema import from_table
from nanotx.config.toml import write_toml
from nanotx.data.corpus.file import File
from nanotx.errors import NanotxError
from nanotx.hardware.device import choose_machine
from nanotx.recipe import Recipe
from nanotx.recipe_flags import read_options, read_recipe
from nanotx.runs.folder import RunFolder
from nanotx.runs.formats import read_saved_recipe
from nanotx.runs.load import load
from nanotx.runs.metrics_log import read
from nanotx.runs.resume import resume_run, tokenizer_of
from nanotx.runs.resume_check import survey
from nanotx.selftest import Broken
from nanotx.tokenizers import load as load_tokenizer
from nanotx.training.dataset import load_dataset
from nanotx.training.trainer import Trainer

Reading = Callable[[Path], object]
REFUSED = range(2, 6)
"""The exit codes of a user's mistake."""


def outcome(reading: Reading, folder: Path) -> str:
    """Return how a reading ended; raise what a user must never see."""
    try:
        reading(folder)
    except Broken:
        raise
    except NanotxError as error:
        return type(error).__name__
    except SystemExit as end:
        if end.code not in {0, None, *REFUSED}:
            raise Broken(f"it ended with the exit code {end.code}.") from None
        return f"exit {end.code}"
    return "read"


def recipe(folder: Path) -> None:
    """Read mine.toml and the flags in words.json; a valid recipe is written and read back equal."""
    argv = json.loads((folder / "words.json").read_text(encoding="ascii"))
    with chdir(folder):
        read_options(argv)
        parsed, _ = read_recipe(Recipe(), argv, "nanotx train")
    again = from_table(Recipe, tomllib.loads(write_toml(parsed)))
    if again != parsed:
        raise Broken(f"{parsed} came back as {again}.")


def sample(folder: Path) -> None:
    """Sample a few tokens of the run."""
    load(folder / "run").generate("a", max_new_tokens=3)


def show(folder: Path) -> None:
    """Run `nanotx show`."""
    before = sys.argv
    try:
        sys.argv = ["nanotx", "show", str(folder / "run")]
        runpy.run_module("nanotx", run_name="__main__", alter_sys=True)
    finally:
        sys.argv = before


def resume(folder: Path) -> None:
    """Read all that --resume reads before the first new step, on the text of the run (no other is fetched)."""
    run = RunFolder(folder / "run")
    saved = read_saved_recipe(run.recipe)
    codec = tokenizer_of(run)
    corpus = File(path=str(folder / "text.txt"), validation=saved.corpus.validation)
    here = replace(saved, corpus=corpus, device="cpu", dtype="float32", threads=1, compile=False)
    texts = load_dataset(here, codec)
    model = here.model.build(codec.vocab_size, here.seed)
    trainer = Trainer(here, model, texts.windows, choose_machine("cpu", "float32", 1))
    resume_run(trainer, run, texts, lambda line: None, survey(run))
    list(read(run.metrics))


def tokenizer(folder: Path) -> None:
    """Load mine.json, encode a text and decode it."""
    codec = load_tokenizer(folder / "mine.json")
    ids = codec.encode("abc \n")
    codec.decode_bytes(ids)
