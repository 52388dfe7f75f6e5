"""How fast a model trains: our step and other libraries' on the equal model, and our recipes trained whole.

    python benchmarks/training.py --device cpu --json benchmarks/results/training-cpu.json
    python benchmarks/training.py --recipe baby_gpt --batch 16 --contenders nanotx,transformers_compiled
    python benchmarks/training.py --rounds 0 --recipes flash,record --target 1.8857,1.4697 --seeds 3
    python benchmarks/training.py --rounds 0 --recipes macbook --nanogpt ../nanoGPT

First each contender is shown to be equal to the baseline. Then all are timed interleaved, each in its own process.
"""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from harness import Row
from harness.contenders import Compile, Where, choose_contenders, require_packages
from harness.gpt2 import CHECKOUT, gpt2_shape
from harness.laws import PASS
from harness.machine import choose_machines, described
from harness.nanogpt_run import check_checkout, laptop_run
from harness.race import Measured, Plan, race, rows_of
from harness.recipes import read_recipe
from harness.report import Flags, open_output, progress, write_json
from harness.tables import Cell, number, open_console, print_notes, print_table, word
from harness.whole_runs import PHASES, choose_recipes, parse_target, run_all
from rich.text import Text

from nanotx.cli.entry import run_and_exit
from nanotx.config.flags import parse
from nanotx.config.schema import check_min
from nanotx.errors import ConfigError
from nanotx.hardware.device import Machine, choose_machine


@dataclass(frozen=True, kw_only=True)
class TrainingFlags(Flags):
    """Times training steps of a recipe in several libraries, and trains recipes whole."""

    device: str = "auto"  # cpu, cuda, mps, or several: cpu,cuda
    recipe: str = "macbook"  # a preset, or a file; GPT-2-like, its step is timed
    batch: int = 0  # sequences of a step; 0 for as many as the recipe has
    layers: int = 0  # of the model; 0 for as many as the recipe has
    dropouts: str = "0,0.2"  # fractions dropped, wherever GPT-2 drops; everything is timed with each
    peers: bool = True  # whether other libraries take part; they need the extra bench
    contenders: str = ""  # who takes part, separated by commas, or all; without it the default ones
    compile: Compile = "auto"  # ours where it pays, always, or never; off is for the others too
    rounds: int = 40  # at most, each of which times every contender; the figures are medians; 0 times no steps
    seconds: float = 20.0  # after which no round begins, for one dropout
    steps: int = 0  # of one turn; 0 for as many as take a quarter of a second
    starts: int = 2  # how often each is started from nothing, to time the way to its first step
    learn: int = 0  # seeds with which each contender is trained to the end; 0 for none
    recipes: str = ""  # presets, or files, to be trained whole, separated by commas
    seeds: int = 3  # of each of them, from 1337 on
    target: str = ""  # the validation loss to reach; or one for each of the recipes, separated by commas
    nanogpt: str = ""  # a checkout of nanoGPT: its model is a contender, its laptop command runs beside --recipes

    def check(self) -> None:
        """Raise ConfigError for a number out of range."""
        check_min(self, 0, "rounds", "steps", "starts", "learn", "batch", "layers")
        check_min(self, 1, "seeds")
        if not self.rounds and not self.recipes:
            raise ConfigError("--rounds 0: times no steps, and no --recipes are named, so nothing is left to do.")

    def fractions(self) -> tuple[float, ...]:
        """Return the dropouts.

        Raises:
            ConfigError: one is not a fraction.
        """
        try:
            fractions = tuple(dict.fromkeys(float(word) for word in self.dropouts.split(",")))
        except ValueError:
            fractions = (-1.0,)
        if not all(0 <= fraction < 1 for fraction in fractions):
            raise ConfigError(
                f"--dropouts: expected shares from 0 up to but not including 1, such as 0,0.2; got {self.dropouts!r}."
            )
        return fractions


def main() -> int:
    """Read the flags, measure, show, write."""
    flags = parse(TrainingFlags, sys.argv[1:], "training.py")
    flags.check()
    if flags.nanogpt and flags.recipes:
        check_checkout(flags.nanogpt)
    if flags.nanogpt:
        os.environ[CHECKOUT] = str(Path(flags.nanogpt).resolve())
    plain = choose_machines(flags.device, flags.threads, "float32")
    best = [choose_machine(machine.device.type, "auto", flags.threads) for machine in plain]
    wanted, plans = choose_recipes(flags.recipes, flags.target), [plan_of(flags, machine) for machine in best]
    out, seeds, runs = open_output(flags.json), range(1337, 1337 + flags.seeds), list[Row]()
    peers = [peer_of(flags, plan.where) for plan in plans]
    total = len(plans) * (2 + len(flags.fractions())) * bool(flags.rounds)
    total += sum(len(wanted) + bool(peer) for peer in peers) * len(seeds)
    races = list[list[Measured]]()
    with described(list(dict.fromkeys([*plain, *best]))) as machine, progress(total) as announce:
        for plan, peer in zip(plans, peers, strict=True):
            races.append(race(plan, announce) if flags.rounds else [])
            words = ["--device", plan.where.device, "--threads", str(plan.where.threads)]
            runs += run_all(wanted, seeds, words, announce, peer)
    peaks = machine["peak_flops"]
    rows = [row for plan, measured in zip(plans, races, strict=True) for row in rows_of(plan, measured, peaks)]
    write_json(out, machine, rows + runs)
    show(machine, rows, runs)
    return 0


def plan_of(flags: TrainingFlags, machine: Machine) -> Plan:
    """Return what is compared on one device.

    Raises:
        ConfigError: the recipe is not GPT-2-like, or a contender is unknown or not installed.
    """
    batch, layers = (
        {"batch_size": flags.batch} if flags.batch else {},
        {"layers": flags.layers} if flags.layers else {},
    )
    recipe = read_recipe(flags.recipe, changes={"train": batch, "model": layers})
    gpt2_shape(recipe)
    names = choose_contenders(flags.contenders, flags.peers)
    require_packages(names)
    return Plan(
        label=Path(flags.recipe).stem,
        names=names,
        recipe=recipe,
        dropouts=flags.fractions(),
        where=Where(device=machine.device.type, threads=machine.threads, best=machine.dtype_name),
        target=parse_target(flags.target) if flags.target and not flags.recipes else None,
        compiling=flags.compile,
        rounds=flags.rounds,
        limit=flags.seconds,
        steps=flags.steps,
        starts=flags.starts,
        seeds=flags.learn,
    )


def peer_of(flags: TrainingFlags, where: Where) -> Callable[[int], Row] | None:
    """Return what runs nanoGPT's laptop command beside the recipes; None without its checkout, or off the CPU."""
    if not (flags.nanogpt and flags.recipes and where.device == "cpu"):
        return None
    return partial(laptop_run, check_checkout(flags.nanogpt), where.threads)


# Tables.


def show(machine: Row, rows: Sequence[Row], runs: Sequence[Row]) -> None:
    """Print a table for each dropout, and one of whole runs."""
    console = open_console(160)
    console.print(Text(f"{machine['cpu']}, {machine['threads']} threads, torch {machine['torch']}"), soft_wrap=True)
    for device, fraction in dict.fromkeys((row["device"], row["dropout"]) for row in rows):
        these = [row for row in rows if (row["device"], row["dropout"]) == (device, fraction)]
        first = these[0]
        size = f"{first['layers']} layers, {first['batch']}x{first['time']}x{first['dim']}, {first['heads']} heads"
        title = f"A step of {first['shape']} on {device}: {size}, dropout {fraction:g}"
        print_table(console, title, STEP_COLUMNS, these, left=2)
    if rows:
        print_notes(console, ABOUT_STEPS, rows)
    if runs:
        print_table(console, "Whole runs", RUN_COLUMNS, runs, left=2)
        phases = [{"name": row["name"]} | row["phases"] for row in runs if "phases" in row]
        print_table(console, "Where their seconds go", PHASE_COLUMNS, phases)
        print_notes(console, ABOUT_RUNS, [])


def kind(row: Row) -> Text:
    """Return the dtype, and whether it is compiled."""
    return Text("-" if row["dtype"] is None else row["dtype"] + (" compiled" if row["compiled"] is True else ""))


def loss(row: Row) -> Text:
    """Return a mean and the half-width of its interval."""
    if row["val_loss"] is None:
        return Text("-")
    interval = row["val_loss_interval"]
    return Text(f"{row['val_loss']:.4f} " + ("1 seed" if interval is None else f"±{interval:.4f}"))


def target(row: Row) -> Text:
    """Return the seconds to the target, or how many seeds reached it and how far the nearest is from it."""
    if row["target"] is None or row["reached"] is None:
        return Text("-")
    if row["target_seconds"] is not None:
        return Text(f"{row['target_seconds']:.1f} to {row['target']:g}")
    return Text(f"{row['reached']}/{len(row['seeds'])}, {row['nearest'] - row['target']:+.4f}")


SHARED_COLUMNS: dict[str, Cell] = {
    "tokens/s": number("tokens_per_second", ",.0f"),
    "MFU": number("mfu", ".1%"),
    "MB": number("memory_mb", ",.0f"),
    "start s": number("start_seconds", ".1f"),
    "compile s": number("compile_seconds", ".1f"),
    "loss": loss,
    "target s": target,
}
STEP_COLUMNS: dict[str, Cell] = {
    "": word("name"),
    "in": kind,
    "ms": number("median_ms", ".2f"),
    "iqr": number("iqr_ms", ".2f"),
    "speed": number("speedup", ".2f"),
    **SHARED_COLUMNS,
    "laws": lambda row: Text("pass" if row["laws"] == PASS else "failed"),
}
RUN_COLUMNS: dict[str, Cell] = {
    "": word("name"),
    "in": kind,
    "wall s": number("wall_seconds", ".1f"),
    "beside nanoGPT": number("ratio_to_peer", ".2f"),
    **SHARED_COLUMNS,
}
PHASE_COLUMNS: dict[str, Cell] = {"": word("name"), **{name: number(name, ".1f") for name in PHASES.values()}}
ABOUT_STEPS = (
    "speed: relative to nanotx_plain, the median over the rounds. MB: the peak of the first steps. start: from nothing "
    "to the end of the first step, nothing compiled. loss: mean of the seeds ± 95% interval."
)
ABOUT_RUNS = (
    "loss: mean of the seeds ± 95% interval. wall, target, start: from before the process starts. target: or how many "
    "seeds reached it, and how near they came."
)

if __name__ == "__main__":
    run_and_exit(main)
