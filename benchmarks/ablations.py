"""What each part of a recipe is worth: the recipe is trained again with one part changed, on the same seeds.

    python benchmarks/ablations.py --steps 400 --threads 1 --runs ablations --json benchmarks/results/ablations-cpu.json
    python benchmarks/ablations.py --arms window_8,one_head --seeds 1337,1338

A seed decides the first weights, the windows and their order, so runs of one seed differ in the changed part alone; the
difference of their losses varies far less than the losses. A run that is complete in the folder is not repeated, so
an interrupted table continues, and several processes may fill one folder with different arms.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

from harness import Row
from harness.machine import choose_machines, describe
from harness.processes import environment
from harness.report import Announce, known_names, open_output, progress, write_json
from harness.tables import Cell, number, open_console, print_table, word
from harness.timing import confidence_interval
from rich.text import Text

from nanotx.cli.entry import run_and_exit
from nanotx.config.flags import parse
from nanotx.config.schema import check_min
from nanotx.errors import ConfigError, RunError
from nanotx.hardware.device import Machine
from nanotx.recipe import Recipe
from nanotx.recipe_flags import read_recipe
from nanotx.training.dataset import load_dataset
from nanotx.training.trainer import Trainer

BASE = "recipe"
ARMS: dict[str, tuple[str, str]] = {  # name: (what is changed, flags)
    BASE: ("nothing", ""),
    "window_8": ("each token sees 8 tokens", "--attention sliding_window --attention.window 8 --attention.block 8"),
    "window_32": ("each token sees 32 tokens", "--attention sliding_window --attention.window 32 --attention.block 32"),
    "linear": ("linear attention", "--attention linear"),
    "no_position": ("no position", "--position none"),
    "one_head": ("one head", "--attention.heads 1"),
    "one_layer": ("one layer", "--model.layers 1"),
    "no_qk_norm": ("no norm of queries and keys", "--attention.no-qk-norm"),
    "mlp": ("GELU for the squared ReLU", "--ffn mlp"),
    "adamw_1e-3": ("AdamW, learning rate 0.001", "--optimizer adamw --optimizer.lr 1e-3"),
    "adamw_2e-3": ("AdamW, learning rate 0.002", "--optimizer adamw --optimizer.lr 2e-3"),
    "adamw_4e-3": ("AdamW, learning rate 0.004", "--optimizer adamw --optimizer.lr 4e-3"),
    "adamw_8e-3": ("AdamW, learning rate 0.008", "--optimizer adamw --optimizer.lr 8e-3"),
    "token_shift": ("with token shift", "--block token_shift"),
    "dropout": ("with a dropout of 0.1", "--block.dropout 0.1"),
}


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Trains a recipe with one part changed at a time, and compares the losses seed by seed."""

    recipe: str = "shakespeare_char"  # a recipe of nanotx in Python
    arms: str = ",".join(ARMS)  # what is changed, separated by commas
    seeds: str = "1337,1338,1339"  # of weights, order and dropout
    steps: int = 0  # of training; 0 for as many as the recipe has
    rounds: int = 5  # of the timing, in each of which the recipe and the arm take turns; 0 times nothing
    turn: int = 4  # steps of one turn
    threads: int = 0  # of training; 0 for as many as there are cores; the timing is of one thread
    runs: str = "ablations"  # folder of the runs
    json: str = ""  # write the figures into this file

    def seed_numbers(self) -> list[int]:
        """Return the seeds.

        Raises:
            ConfigError: one is not a whole number.
        """
        words = [word.strip() for word in self.seeds.split(",")]
        if not all(word.isdecimal() for word in words):
            raise ConfigError(f"--seeds: expected whole numbers such as 1337,1338, got {self.seeds!r}.")
        return [int(word) for word in words]


def arm_recipe(flags: Flags, arm: str) -> Recipe:
    """Return the recipe with one part changed, and as many steps as the flags ask for."""
    base: Recipe = import_module(f"nanotx.recipes.{flags.recipe}").recipe
    recipe, _ = read_recipe(base, ARMS[arm][1].split(), "ablations.py")
    return replace(recipe, train=replace(recipe.train, steps=flags.steps or recipe.train.steps))


def val_loss(flags: Flags, arm: str, seed: int) -> float:
    """Return the validation loss of the run of an arm and a seed, training it unless it is there.

    Raises:
        RunError: the training failed.
    """
    folder = Path(flags.runs, f"{arm}-{seed}")
    summary = folder / "summary.json"
    if not summary.exists():
        words = [*ARMS[arm][1].split(), "--seed", str(seed), "--threads", str(flags.threads), "--no-compile"]
        if flags.steps:
            words += ["--train.steps", str(flags.steps)]
        for kind in ("eval", "sample", "checkpoint"):
            words += [f"--train.{kind}-every", "0"]
        command = [sys.executable, "-m", "nanotx", "train", flags.recipe, *words, "--run", str(folder)]
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
        if done.returncode:
            raise RunError(f"{arm}, seed {seed}: {done.stderr.strip()[-500:]}")
    figures = json.loads(summary.read_text(encoding="utf-8"))
    if not figures["complete"] or flags.steps not in (0, figures["steps"]):
        raise RunError(f"{folder}: expected a complete run of {flags.steps} steps; remove it, or name other --runs.")
    return float(figures["val_loss"])


def step_ratio(base: Trainer, other: Trainer, rounds: int, turn: int) -> float:
    """Return the processor time of a step relative to the recipe's: the median over rounds in which both take turns.

    Processor time of one thread is hardly touched by what else the machine does.
    """
    ratios = []
    for _ in range(rounds + 1):
        seconds = []
        for trainer in (base, other):
            began = time.process_time()
            for _ in range(turn):
                trainer.train_step()
            seconds.append(time.process_time() - began)
        ratios.append(seconds[1] / seconds[0])
    return statistics.median(ratios[1:])  # the first round warms up


def trainer_of(recipe: Recipe, machine: Machine) -> Trainer:
    """Return a trainer for the timing."""
    data = load_dataset(recipe)
    return Trainer(replace(recipe, compile=False), recipe.model.build(data.codec.vocab_size), data.windows, machine)


def row_of(flags: Flags, arm: str, base: Sequence[float], machine: Machine, announce: Announce) -> Row:
    """Return the row of an arm: its losses, their mean paired difference from the recipe's, and the time of a step."""
    losses, seeds = [], flags.seed_numbers()
    for seed in seeds:
        announce(f"{arm}, seed {seed}")
        losses.append(val_loss(flags, arm, seed))
    differences = [loss - reference for loss, reference in zip(losses, base or losses, strict=True)]
    ratio, recipe = None, arm_recipe(flags, arm)
    if flags.rounds:
        announce(f"{arm}, timing")
        reference = trainer_of(arm_recipe(flags, BASE), machine)
        ratio = step_ratio(reference, trainer_of(recipe, machine), flags.rounds, flags.turn) if arm != BASE else 1.0
    return {
        "name": arm,
        "changed": ARMS[arm][0],
        "flags": ARMS[arm][1],
        "device": machine.device.type,
        "dtype": str(machine.dtype).removeprefix("torch."),
        "threads": flags.threads,
        "steps": recipe.train.steps,
        "seeds": seeds,
        "losses": losses,
        "val_loss": statistics.fmean(losses),
        "difference": statistics.fmean(differences),
        "interval": confidence_interval(differences) if arm != BASE else None,
        "step_ratio": ratio,
    }


def difference(row: Row) -> Text:
    """Return the mean paired difference with its 95% interval."""
    if row["name"] == BASE:
        return Text("-")
    spread = "" if row["interval"] is None else f" ± {row['interval']:.4f}"
    return Text(f"{row['difference']:+.4f}{spread}")


def main() -> int:
    """Read the flags, train, time, show, write."""
    flags = parse(Flags, sys.argv[1:], "ablations.py")
    check_min(flags, 0, "steps", "rounds", "threads")
    check_min(flags, 1, "turn")
    names = known_names("--arms", flags.arms, [*ARMS])
    arms, out, seeds = [BASE, *(name for name in names if name != BASE)], open_output(flags.json), flags.seed_numbers()
    dtype = arm_recipe(flags, BASE).dtype
    machine = choose_machines("cpu", 1, "" if dtype == "auto" else dtype)[-1]
    about, rows = describe([machine]), list[Row]()
    with progress(total=len(arms) * (len(seeds) + bool(flags.rounds))) as announce:
        for arm in arms:
            rows.append(row_of(flags, arm, rows[0]["losses"] if rows else [], machine, announce))
            write_json(out, about, rows)
    title = f"{flags.recipe}, {rows[0]['steps']:,} steps, seeds {flags.seeds}: validation loss, nats per token"
    columns: dict[str, Cell] = {
        "arm": word("name"),
        "changed": word("changed"),
        "loss": number("val_loss", ".4f"),
        "difference": difference,
        "step": number("step_ratio", ".2f"),
    }
    print_table(open_console(), title, columns, rows, left=2)
    return 0


if __name__ == "__main__":
    run_and_exit(main)
