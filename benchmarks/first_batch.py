"""How soon a large token file gives its first batch: from opening the corpus, each time in a process of its own.

    python benchmarks/first_batch.py --json benchmarks/results/first_batch-cpu.json
    python benchmarks/first_batch.py --contexts 1024 --vocab-sizes 50000 --tokens 100000000 --documents 100000

The file is made first: random ids of two bytes, in documents whose lengths are log-normal, as those of web texts are.
Each process has loaded the libraries and done nothing else. What is timed includes the tokenizer, which the file holds,
the digest that is compared, and the texts of the evaluations. `disk`: the system was asked to forget the file before.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np
from harness import Row
from harness.laws import PASS, figures, verdict
from harness.processes import preloaded
from harness.report import known_names, open_output, progress, whole_numbers, write_json
from harness.tables import number, open_console, print_notes, print_table, word
from harness.timing import Times, turn_order
from rich.text import Text

from nanotx.cli.entry import run_and_exit
from nanotx.config.flags import parse
from nanotx.config.schema import check_min
from nanotx.data.corpus.tokens import Tokens
from nanotx.data.documents import PackedWindows
from nanotx.errors import ConfigError
from nanotx.hardware.cpu import describe_machine
from nanotx.laws.packing import each_target_once
from nanotx.nn.transformer import Model
from nanotx.recipe import Recipe, Train
from nanotx.tokenizers.bpe import BpeCodec
from nanotx.tokenizers.regexes import NAMED
from nanotx.tokenizers.saved import Saved
from nanotx.tokenizers.token_file import Block, Place, open_tokens, write_tokens
from nanotx.training import dataset

WAYS = ("join", "separate")
STATES = ("cached", "disk")
BATCH, SEED, AT_ONCE = 12, 1, 50_000  # rows of a batch; of the file; documents that are written at once
CASES = 200  # documents of the small file
MOST = 256 * 257  # ids of a tokenizer of bytes and pairs of them
PHASES = {"open_split": "open_ms", "pack_file": "pack_ms", "eval_text_of_rows": "evaluation_ms"}
ABOUT = (
    "ms: median, and its interquartile range, over processes. x: relative to `join`. open: the file, its digest and "
    "its tokenizer. pack: all documents. evaluation: the texts of evaluations. faults: pages touched first."
)


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Times the first batch of a token file, after the laws of its rows have held on a small one."""

    device: str = "cpu"  # token files are read on no other
    documents: int = 1_000_000  # of the file
    tokens: int = 1_000_000_000  # of the file, about
    spread: float = 1.0  # standard deviation of the logarithm of the documents' lengths
    vocab_sizes: str = "4096,32768"  # of its tokenizers, each with a file of its own
    contexts: str = "256,1024,4096"  # tokens of a window, or of a row of documents
    states: str = "cached"  # where the file is before: cached, disk, or both
    rounds: int = 7  # processes for each figure
    folder: str = ""  # for the file, which is removed afterwards; empty for the system's
    json: str = ""  # write the figures into this file

    def check(self) -> None:
        """Check the numbers and names.

        Raises:
            ConfigError: one is unknown or out of range, or this system cannot be asked to forget a file.
        """
        if self.device != "cpu":
            raise ConfigError(f"--device: expected cpu, got {self.device!r}; token files are read on no other.")
        check_min(self, 100, "documents")
        check_min(self, self.documents, "tokens")
        check_min(self, 1, "rounds")
        whole_numbers("--contexts", self.contexts)
        if not all(256 <= size <= MOST for size in whole_numbers("--vocab-sizes", self.vocab_sizes)):
            raise ConfigError(f"--vocab-sizes: expected sizes from 256 to {MOST}, got {self.vocab_sizes!r}.")
        if "disk" in known_names("--states", self.states, STATES) and not hasattr(os, "posix_fadvise"):
            raise ConfigError("--states disk: this system cannot be asked to forget a file; try --states cached.")


# The file.


def codec_of(vocab_size: int) -> BpeCodec:
    """Return a tokenizer of so many ids: the bytes, and pairs of them."""
    return BpeCodec(tuple(divmod(pair, 256) for pair in range(vocab_size - 256)), NAMED["gpt4"])


def write_file(path: Path, flags: Flags, vocab_size: int) -> list[int]:
    """Write the token file, and return the lengths of its documents."""
    random = np.random.default_rng(SEED)
    drawn = random.lognormal(0, flags.spread, flags.documents)
    lengths = np.maximum(1, np.round(drawn * flags.tokens / drawn.sum())).astype(np.int64)
    ends = np.cumsum(lengths)

    def blocks(_: Place) -> Iterator[Block]:
        for first in range(0, flags.documents, AT_ONCE):
            some = ends[first : first + AT_ONCE]
            ids = random.integers(
                0, vocab_size, int(lengths[first : first + AT_ONCE].sum()), dtype=np.int32
            )  # as codecs give them
            yield Block(ids, Place(count=int(some[-1]), documents=first + len(some), size=2 * int(some[-1])), some)

    write_tokens(codec_of(vocab_size), path, blocks)
    return lengths.tolist()


def recipe_of(path: Path, context: int, way: str, *val_path: str) -> Recipe:
    """Return a recipe that reads the file; without another one to validate on, its end."""
    documents: Literal["join", "separate"] = "join" if way == "join" else "separate"
    corpus, tokenizer = Tokens(path=(str(path),), documents=documents, val_path=val_path), Saved(path=str(path))
    model, plan = Model(dim=64, layers=1, context=context), Train(batch_size=BATCH)
    return Recipe(corpus=corpus, tokenizer=tokenizer, model=model, train=plan, seed=SEED)


def try_small(folder: Path, flags: Flags) -> None:
    """Raise LawBroken unless an epoch of a small file of the same kind learns each token of each document once."""
    path = folder / "small.ids"
    lengths = write_file(path, replace(flags, documents=CASES, tokens=20 * CASES), 512)
    windows = dataset.load_dataset(recipe_of(path, 16, "separate", str(path))).windows
    assert isinstance(windows, PackedWindows)
    documents = np.split(open_tokens(path).ids[:], np.cumsum(lengths)[:-1])
    each_target_once(windows, [ids.tolist() for ids in documents], BATCH)


def forget(path: Path) -> None:
    """Ask the system to read a file from the disk the next time."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


# In a process of its own.


def first_batch(path: Path, context: int, way: str) -> Row:
    """Read the first batch; return the seconds of all and of each phase, and the pages that were touched first."""
    recipe, phases = recipe_of(path, context, way), dict[str, float]()
    for name in PHASES:
        setattr(dataset, name, partial(add_seconds, phases, name, getattr(dataset, name)))
    faults, processor, start = page_faults(), time.process_time(), time.perf_counter()
    windows = dataset.load_dataset(recipe).windows
    windows.batch(0, BATCH)
    windows.documents(0, BATCH)
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    return {"seconds": seconds, "processor": processor, "faults": page_faults() - faults, **phases}


def add_seconds(phases: dict[str, float], name: str, run: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Run a phase, and add what it took."""
    start = time.perf_counter()
    result = run(*args, **kwargs)
    phases[name] = phases.get(name, 0.0) + time.perf_counter() - start
    return result


def page_faults() -> int:
    """Return how many pages this process has touched first; 0 where the system does not count them."""
    try:
        import resource  # not on Windows
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


# The program.


def main() -> int:
    """Try the laws, make each file, read it in turns, show, write."""
    flags = parse(Flags, sys.argv[1:], "first_batch.py")
    flags.check()
    out, rows = open_output(flags.json), list[Row]()
    contexts, sizes = whole_numbers("--contexts", flags.contexts), whole_numbers("--vocab-sizes", flags.vocab_sizes)
    states = known_names("--states", flags.states, STATES)
    with tempfile.TemporaryDirectory(dir=flags.folder or None) as folder, progress() as announce:
        laws = verdict(partial(try_small, Path(folder), flags))
        for size in sizes if laws == PASS else ():
            announce(f"writing a file of {flags.tokens:,} tokens")
            path = Path(folder, "large.ids")
            write_file(path, flags, size)
            for context, state in product(contexts, states):
                announce(f"{size:,} ids, context {context}, {state}")
                rows += rows_of(path, context, state, flags, {"vocab_size": size, "laws": laws, "cases": CASES})
    machine = describe_machine("torch", "numpy")
    write_json(out, machine, rows)
    show(machine, rows or [{"name": "separate", "laws": laws}], flags)
    return int(laws != PASS)


def rows_of(path: Path, context: int, state: str, flags: Flags, about: Row) -> Iterator[Row]:
    """Yield a row of each way."""
    found: dict[str, list[Row]] = {way: [] for way in WAYS}
    for way in turn_order(WAYS, flags.rounds):
        if state == "disk":
            forget(path)
        with ProcessPoolExecutor(1, mp_context=preloaded()) as pool:
            found[way].append(pool.submit(first_batch, path, context, way).result())
    times: Times = {way: [row["seconds"] for row in some] for way, some in found.items()}
    sizes = {"documents": flags.documents, "tokens": flags.tokens, "bytes": path.stat().st_size}
    for way, some in found.items():
        yield {
            "name": way,
            "device": "cpu",
            "state": state,
            "context": context,
            **about,
            **sizes,
            **figures(times, way, "join", {}),
            "processor_ms": 1e3 * median(row["processor"] for row in some),
            **{name: 1e3 * median(row.get(phase, 0.0) for row in some) for phase, name in PHASES.items()},
            "faults": median(row["faults"] for row in some),
        }


def show(machine: Row, rows: list[Row], flags: Flags) -> None:
    """Print a table."""
    console = open_console(140)
    console.print(Text(f"{machine['cpu']}, {machine['cores']} cores"), soft_wrap=True)
    columns = {
        "documents": word("name"),
        "ids": word("vocab_size"),
        "context": word("context"),
        "file": word("state"),
        "ms": number("median_ms", ",.1f"),
        "iqr": number("iqr_ms", ",.1f"),
        "x": number("ratio", ".2f"),
        "processor": number("processor_ms", ",.1f"),
        "open": number("open_ms", ",.1f"),
        "pack": number("pack_ms", ",.1f"),
        "evaluation": number("evaluation_ms", ",.1f"),
        "faults": number("faults", ",.0f"),
    }
    print_table(console, f"First batch of {flags.tokens:,} tokens in {flags.documents:,} documents", columns, rows)
    print_notes(console, ABOUT, rows)


if __name__ == "__main__":
    run_and_exit(main)
