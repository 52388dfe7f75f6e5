"""Learn a second voice: the loss on the new text and on the old one after all weights, LoRA, or the last block learned.

    python benchmarks/fine_tuning.py --device cpu --json benchmarks/results/fine_tuning-cpu.json
    python benchmarks/fine_tuning.py --base runs/shakespeare_char-1,runs/shakespeare_char-2

Without `--base` shakespeare_char is trained first, whole, for each seed. Each way is `nanotx train shakespeare_char`
with flags: it begins with the base of its seed, and learns the logbook of the playhouse. What is forgotten is the rise
of the loss on the validation text of the base's own corpus.
"""

import json
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from harness import Row
from harness.machine import choose_machines, describe
from harness.report import Announce, Flags, open_output, progress, whole_numbers, write_json
from harness.tables import Cell, number, open_console, print_table, word

import nanotx
from nanotx.cli.entry import run_and_exit
from nanotx.cli.run import with_source
from nanotx.config.flags import parse
from nanotx.config.schema import check_min
from nanotx.errors import ConfigError
from nanotx.evaluation.by_script import score_text
from nanotx.hardware.device import Machine
from nanotx.recipe import Recipe
from nanotx.recipe_flags import read_recipe
from nanotx.recipes.shakespeare_char import recipe as shakespeare_char
from nanotx.runs.folder import RunFolder
from nanotx.runs.load import LoadedRun, load
from nanotx.training.freezing import freeze

NEW = "--corpus playhouse --corpus.grammar logbook --corpus.size 300000"
PLAN = "--optimizer adamw --schedule cosine --schedule.warmup 10"


class Way(NamedTuple):
    """A way to learn: what it is called, its flags for a model of so many layers, and its share of the steps."""

    name: str
    flags: Callable[[int], str]
    share: float = 1.0


WAYS = (
    Way("all weights", lambda layers: "--optimizer.lr 1e-3"),
    Way("LoRA, rank 8", lambda layers: "--adapt lora --optimizer.lr 3e-3"),
    Way("all weights", lambda layers: "--optimizer.lr 1e-3", share=0.4),
    Way("last block", lambda layers: f"{first_blocks(layers - 1)} --optimizer.lr 1e-3"),
    Way("all weights", lambda layers: "--optimizer.lr 1e-3", share=0.3),
)


def first_blocks(count: int) -> str:
    """Return the flags that freeze the embedding and some blocks."""
    return " ".join(f"--freeze '{name}'" for name in ("embedding*", *(f"blocks.{n}.*" for n in range(count))))


COLUMNS: dict[str, Cell] = {
    "what learns": word("name"),
    "steps": word("steps"),
    "weights": number("trained", ","),
    "loss on the new text": number("loss_new", ".4f"),
    "on the old one": number("loss_old", ".4f"),
    "forgotten": number("forgotten", "+.4f"),
    "seconds": number("train_seconds", ".1f"),
}


@dataclass(frozen=True, kw_only=True)
class FineTuningFlags(Flags):
    """Trains a model of one text on another in several ways, and reports what it learned, forgot, and cost."""

    base: str = ""  # runs to begin with, separated by commas; without it, shakespeare_char is trained for each seed
    seeds: str = "1337,1338,1339"  # of the bases and of the steps that follow, separated by commas
    steps: int = 100  # of each way


@dataclass(frozen=True, kw_only=True, eq=False)
class Texts:
    """The validation texts that a model is evaluated on."""

    new: str
    old: str

    @classmethod
    def of(cls, base: LoadedRun) -> "Texts":
        """Return the texts for what begins with a base: of the logbook, and of the base's own corpus."""
        recipe, _ = read_recipe(Recipe(), shlex.split(NEW), "fine_tuning.py")
        return cls(new=recipe.corpus.split()[1], old=base.recipe.corpus.split()[1])

    def losses(self, run: LoadedRun, machine: Machine) -> Row:
        """Return the loss on each text in nats per token, every token predicted once."""
        model = run.model.to(machine.device)
        new, old = (score_text(model, run.tokenizer, text, machine).whole.loss for text in (self.new, self.old))
        return {"loss_new": new, "loss_old": old}


def recipe_of(base: LoadedRun, flags: FineTuningFlags, way: Way, seed: int) -> Recipe:
    """Return the recipe of a way, as `nanotx train shakespeare_char` reads its flags."""
    words = [f"--init {shlex.quote(base.folder)}", NEW, PLAN, way.flags(base.recipe.model.layers)]
    words += [f"--train.steps {max(1, round(way.share * flags.steps))} --seed {seed} --dtype float32"]
    words += [f"--device {flags.device} --threads {flags.threads} --train.checkpoint-every 0"]
    words += ["--train.eval-every 0 --train.eval-tokens 2048 --train.sample-every 0 --train.sample-tokens 1"]
    recipe, argv, _ = with_source(shakespeare_char, shlex.split(" ".join(words)))
    return read_recipe(recipe, argv, "fine_tuning.py")[0]


def trained_weights(recipe: Recipe, vocab_size: int) -> int:
    """Return how many weights a recipe trains."""
    model = recipe.model.build(vocab_size)
    freeze(model, recipe.freeze)
    return sum(param.numel() for param in model.parameters() if param.requires_grad)


def row_of(base: LoadedRun, before: Row, texts: Texts, recipe: Recipe, name: str, machine: Machine) -> Row:
    """Train a recipe that begins with a base, and return what it learned and forgot."""
    with tempfile.TemporaryDirectory() as folder:
        run = nanotx.train(recipe, run=Path(folder) / "run", quiet=True)
        summary = json.loads(RunFolder(Path(folder) / "run").summary.read_text(encoding="utf-8"))
    after = texts.losses(run, machine)
    return {
        "name": name,
        "steps": recipe.train.steps,
        "seed": recipe.seed,
        "device": machine.device.type,
        "dtype": machine.dtype_name,
        "threads": machine.threads,
        "trained": trained_weights(recipe, run.tokenizer.vocab_size),
        **after,
        "forgotten": after["loss_old"] - before["loss_old"],
        "train_seconds": summary["train_seconds"],
    }


def rows_of(base: LoadedRun, seed: int, flags: FineTuningFlags, machine: Machine, announce: Announce) -> Iterator[Row]:
    """Yield the row of a base as it is, and one of each way."""
    texts = Texts.of(base)
    before = texts.losses(base, machine)
    yield {"name": "the base", "steps": 0, "seed": seed, "trained": 0, **before, "forgotten": 0.0, "train_seconds": 0.0}
    for way in WAYS:
        recipe = recipe_of(base, flags, way, seed)
        announce(f"{way.name}, {recipe.train.steps} steps, seed {seed}")
        yield row_of(base, before, texts, recipe, way.name, machine)


def means(rows: Sequence[Row]) -> list[Row]:
    """Return a row for each way: the means over the seeds."""
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["name"], row["steps"]), []).append(row)
    mean_of = ("loss_new", "loss_old", "forgotten", "train_seconds")
    return [group[0] | {key: mean(row[key] for row in group) for key in mean_of} for group in groups.values()]


def main() -> int:
    """Read the flags, train, evaluate, show, write."""
    flags = parse(FineTuningFlags, sys.argv[1:], "fine_tuning.py")
    check_min(flags, 1, "steps")
    seeds, folders = whole_numbers("--seeds", flags.seeds), flags.base.split(",") if flags.base else []
    if folders and len(folders) != len(seeds):
        raise ConfigError(f"--base: expected a run for each of {len(seeds)} seeds, got {len(folders)}; see --seeds.")
    (machine,) = choose_machines(flags.device, flags.threads, "float32")
    bases, out, rows = [*map(load, folders)], open_output(flags.json), list[Row]()
    with progress(total=len(seeds) * (len(WAYS) + 1 - bool(bases))) as announce, tempfile.TemporaryDirectory() as home:
        for index, seed in enumerate(seeds):
            if not folders:
                announce(f"shakespeare_char, seed {seed}")
                words = ["--seed", str(seed), "--device", flags.device, "--threads", str(flags.threads)]
                recipe, _ = read_recipe(shakespeare_char, words, "fine_tuning.py")
                bases.append(nanotx.train(recipe, run=Path(home) / str(seed), quiet=True))
            rows += rows_of(bases[index], seed, flags, machine, announce)
    write_json(out, describe([machine]), rows)
    title = f"{flags.steps} steps of the logbook, means of {len(seeds)} seeds; losses in nats per token"
    print_table(open_console(), title, COLUMNS, means(rows))
    return 0


if __name__ == "__main__":
    run_and_exit(main)
