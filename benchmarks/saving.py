"""What it costs to save: a checkpoint's milliseconds beside those of the steps between two of them.

    python benchmarks/saving.py --device cpu --json benchmarks/results/saving-cpu.json
    python benchmarks/saving.py --recipes flash,baby_gpt --every 100

Steps and saves take turns in one process. What a save costs the loop is its median over that of as many steps as the
recipe takes between two saves.
"""

import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median, quantiles

from harness import Row
from harness.contenders import dataset_of
from harness.machine import choose_machines, describe
from harness.report import open_output, progress, write_json
from rich.console import Console

from nanotx.cli import tables
from nanotx.cli.entry import run_and_exit
from nanotx.config.flags import parse
from nanotx.config.presets import presets
from nanotx.config.schema import check_min, from_table, to_table
from nanotx.config.toml import merge, read_toml
from nanotx.hardware.device import Machine
from nanotx.recipe import Recipe, Train
from nanotx.runs import checkpoint
from nanotx.runs.folder import RunFolder
from nanotx.runs.trainer_state import save
from nanotx.training.trainer import Trainer


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Times the saving of a recipe's run, and the steps between."""

    device: str = "auto"  # cpu, cuda or mps
    json: str = ""  # write the figures into this file
    recipes: str = "flash,macbook,record"  # presets, or files, separated by commas
    every: int = 0  # steps between two saves; 0 for the default of every recipe
    turns: int = 7  # how often it steps and saves
    threads: int = 0  # processor threads; 0 for as many as there are cores


def recipe_of(name: str) -> Recipe:
    """A preset recipe, or one of a file.

    Raises:
        ConfigError: there is none of this name.
    """
    file = Path(name) if name.endswith(".toml") else presets("recipes") / f"{name}.toml"
    recipe: Recipe = from_table(Recipe, merge(Recipe, to_table(Recipe()), read_toml(file)))
    return replace(recipe, dtype="float32", compile=False)


def row_of(name: str, flags: Flags, machine: Machine, folder: Path) -> Row:
    """What saving a recipe's run costs."""
    recipe = recipe_of(name)
    texts = dataset_of(recipe)
    model = recipe.model.build(texts.codec.vocab_size, recipe.seed)
    trainer = Trainer(recipe, model, texts.windows, machine)
    run = RunFolder(folder / Path(name).stem)
    run.path.mkdir()
    texts.codec.save(run.tokenizer)
    steps, saves = list[float](), list[float]()
    trainer.train_step()
    for _ in range(flags.turns):
        began = time.perf_counter()
        trainer.train_step()
        between = time.perf_counter()
        save(trainer, run, texts)
        steps.append(between - began)
        saves.append(time.perf_counter() - between)
    size = sum(file.stat().st_size for file in next(iter(checkpoint.steps(run.checkpoints).values())).iterdir())
    every = flags.every or Train().checkpoint_every
    quarters = quantiles(saves, n=4)
    return {
        "name": Path(name).stem,
        "device": machine.device.type,
        "dtype": machine.dtype_name,
        "threads": machine.threads,
        "parameters": model.parameter_count,
        "bytes": size,
        "median_ms": 1000 * median(saves),
        "iqr_ms": 1000 * (quarters[2] - quarters[0]),
        "step_ms": 1000 * median(steps),
        "every": every,
        "share": median(saves) / (every * median(steps)),
    }


def table(rows: list[Row]) -> list[list[str]]:
    """A row for each recipe."""
    cells = [["recipe", "parameters", "MB", "save, ms", "step, ms", "saves every", "costs"]]
    for row in rows:
        sizes = [f"{row['parameters'] / 1e6:.2f} M", f"{row['bytes'] / 1e6:.0f}"]
        times = [f"{row['median_ms']:.0f}", f"{row['step_ms']:.0f}", f"{row['every']} steps"]
        cells.append([row["name"], *sizes, *times, f"{row['share']:.3%}"])
    return cells


def main() -> int:
    """Read the flags, step and save, show, write."""
    flags = parse(Flags, sys.argv[1:], "saving.py")
    check_min(flags, 0, "every")
    check_min(flags, 2, "turns")
    (machine,) = choose_machines(flags.device, flags.threads, "float32")[:1]
    out, names, rows = open_output(flags.json), flags.recipes.split(","), list[Row]()
    with progress(total=len(names)) as tell, tempfile.TemporaryDirectory() as folder:
        for name in names:
            tell(f"saving {name}")
            rows.append(row_of(name, flags, machine, Path(folder)))
    console = Console(highlight=False)
    tables.print_table(console, "", table(rows), console.is_terminal)
    write_json(out, describe([machine]), rows)
    return 0


if __name__ == "__main__":
    run_and_exit(main)
