"""What is done with a file that may be anything: all that nanotx ever does when it reads one."""

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
from nanotx.recipe import Recipe, read_options, read_recipe
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
"""The exit codes of those who went wrong themselves."""


def tried(reading: Reading, folder: Path) -> str:
    """Read; says how it ended, and raises where that is no end for a user."""
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
    """mine.toml, and the words in words.json behind it; what is understood is written, and read back equal."""
    argv = json.loads((folder / "words.json").read_text(encoding="ascii"))
    with chdir(folder):
        read_options(argv)
        found, _ = read_recipe(Recipe(), argv, "nanotx train")
    again = from_table(Recipe, tomllib.loads(write_toml(found)))
    if again != found:
        raise Broken(f"{found} came back as {again}.")


def sample(folder: Path) -> None:
    """A few tokens of the run."""
    load(folder / "run").generate("a", max_new_tokens=3)


def show(folder: Path) -> None:
    """Show the run through the entry point."""
    before = sys.argv
    try:
        sys.argv = ["nanotx", "show", str(folder / "run")]
        runpy.run_module("nanotx", run_name="__main__", alter_sys=True)
    finally:
        sys.argv = before


def resume(folder: Path) -> None:
    """All that is read before the run's first new step; its text is the one it began with, and no other is fetched."""
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
    """mine.json, and what it makes of a text."""
    codec = load_tokenizer(folder / "mine.json")
    ids = codec.encode("abc \n")
    codec.decode_bytes(ids)
