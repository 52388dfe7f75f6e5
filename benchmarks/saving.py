"""What it costs to save: how long training waits for a checkpoint, compared with the steps between two of them.

    python benchmarks/saving.py --device cpu --json benchmarks/results/saving-cpu.json
    python benchmarks/saving.py --recipes flash,baby_gpt --every 100

Steps, copies and saves are timed interleaved in one process. A run waits for the copy of its state, which a thread
then writes beside the next steps; where no memory is free for a copy, it waits for the whole save. What saving costs a
run is the median of a copy, relative to as many steps as the recipe takes between two saves.
"""

import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from harness import Row
from harness.machine import choose_machines, describe
from harness.recipes import read_recipe, trainer_of
from harness.report import Flags, open_output, progress, write_json
from harness.tables import number, open_console, print_table, word
from harness.timing import iqr, seconds

from nanotx.cli.entry import run_and_exit
from nanotx.config.flags import parse
from nanotx.config.schema import check_min
from nanotx.hardware.device import Machine
from nanotx.recipe import Train
from nanotx.runs import checkpoint
from nanotx.runs.folder import RunFolder
from nanotx.runs.trainer_state import contents, save

COLUMNS = {
    "recipe": word("name"),
    "M parameters": number("parameters", ".2f", 1e-6),
    "MB": number("bytes", ".0f", 1e-6),
    "copy, ms": number("copy_ms", ".1f"),
    "save, ms": number("median_ms", ".0f"),
    "step, ms": number("step_ms", ".0f"),
    "steps per save": word("every"),
    "costs": number("share", ".3%"),
}


@dataclass(frozen=True, kw_only=True)
class SavingFlags(Flags):
    """Times the saving of a recipe's run, and the steps between."""

    recipes: str = "flash,macbook,record"  # presets, or files, separated by commas
    every: int = 0  # steps between two saves; 0 for the default of every recipe
    turns: int = 7  # how often it steps and saves


def main() -> int:
    """Read the flags, step and save, show, write."""
    flags = parse(SavingFlags, sys.argv[1:], "saving.py")
    check_min(flags, 0, "every")
    check_min(flags, 2, "turns")
    machine, out = choose_machines(flags.device, flags.threads, "float32")[0], open_output(flags.json)
    names, rows = flags.recipes.split(","), list[Row]()
    for name in names:
        read_recipe(name, "--recipes")
    with progress(total=len(names)) as announce, tempfile.TemporaryDirectory() as folder:
        for name in names:
            announce(f"saving {name}")
            rows.append(row_of(name, flags, machine, Path(folder)))
    write_json(out, describe([machine]), rows)
    print_table(open_console(), "", COLUMNS, rows)
    return 0


def row_of(name: str, flags: SavingFlags, machine: Machine, folder: Path) -> Row:
    """Return what saving a recipe's run costs."""
    (trainer, data), run = trainer_of(name, machine), RunFolder(folder / Path(name).stem)
    run.path.mkdir()
    data.codec.save(run.tokenizer)
    steps, copies, saves = list[float](), list[float](), list[float]()
    trainer.train_step()
    for _ in range(flags.turns):
        steps.append(seconds(trainer.train_step, 1, machine.device))
        copies.append(seconds(lambda: contents(trainer, data).copied(), 1, machine.device))
        saves.append(seconds(partial(save, trainer, run, data), 1, machine.device))
    every = flags.every or Train().checkpoint_every
    saved = next(iter(checkpoint.steps(run.checkpoints).values()))
    return {
        "name": Path(name).stem,
        "device": machine.device.type,
        "dtype": machine.dtype_name,
        "threads": machine.threads,
        "parameters": trainer.model.parameter_count,
        "bytes": sum(file.stat().st_size for file in saved.iterdir()),
        "copy_ms": 1000 * median(copies),
        "median_ms": 1000 * median(saves),
        "iqr_ms": 1000 * iqr(saves),
        "step_ms": 1000 * median(steps),
        "every": every,
        "share": median(copies) / (every * median(steps)),
    }


if __name__ == "__main__":
    run_and_exit(main)
