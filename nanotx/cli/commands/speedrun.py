"""Time how soon a recipe reaches a loss."""

import json
import math
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass, fields
from pathlib import Path

import torch

import nanotx
from nanotx.cli.dashboard import Display
from nanotx.cli.run import run_by_name
from nanotx.config.command_line import collect_flags, positional_args
from nanotx.config.flags import option, parse
from nanotx.config.schema import to_table
from nanotx.errors import ConfigError, DataError, did_you_mean
from nanotx.files import read_regular, write_atomic
from nanotx.hardware.cpu import cores, processor
from nanotx.recipe import Recipe
from nanotx.runs.folder import RunFolder, find_folder
from nanotx.runs.formats import read_saved_recipe
from nanotx.runs.metrics_log import Row
from nanotx.runs.speedrun import PUBLISHED, SEEDS, Timer, append_run, best, read_runs
from nanotx.runs.valid import TEXT

PROG = "nanotx speedrun"
USAGE = "[NAME]"
GROUP = "Train"
ORDER = 12


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Run a recipe (the preset `record`, where none is named) against the clock; print when it reached the target.

    The clock starts with the process. All other flags are those of the recipe, as in nanotx train.

        nanotx speedrun
        nanotx speedrun shakespeare_char --target 1.5 --seeds 3 --records records.jsonl
    """

    target: float = PUBLISHED[0]  # validation loss to reach, in nats per token
    seeds: int = 1  # number of runs, each with a seed and a process of its own; a record takes three
    records: str = option("FILE")  # append the outcome of each run to this file, and race against the best in it
    run: str = option("DIR")  # folder of the results; without it, a new runs/<recipe>-<n>; -<seed> is added for several


def run(argv: list[str]) -> int:
    """Race."""
    own = {field.name for field in fields(Flags)}
    mine, others = split_flags(argv, own)
    flags = parse(Flags, mine, PROG)
    if not (math.isfinite(flags.target) and flags.target > 0):
        raise ConfigError(f"--target: expected a loss above 0 such as {PUBLISHED[0]}, got {flags.target!r}.")
    if flags.seeds < 1:
        raise ConfigError(f"--seeds: expected a number of at least 1, got {flags.seeds}.")
    if flags.seeds > 1:
        return run_seeds(flags, others)
    name = next(iter(positional_args(others)), "record")
    rest = others[len(positional_args(others)[:1]) :]
    folder = find_folder(flags.run, Path(name).stem, resume=False)
    record = best(read_records(flags.records), flags.target, machine_key()) if flags.records else None
    timer = Timer(flags.target, record)
    try:
        code = run_by_name([name, *rest, "--run", folder.path.as_posix()], [timer], PROG)
    except ConfigError as error:
        words = [word.partition("=")[0] for word in others]
        wrong = next((word for word in words if f"{word}: no such flag. See" in str(error)), "")
        own_flags = [f"--{flag}" for flag in own]
        raise type(error)(f"{error}{did_you_mean(wrong, own_flags)}") from None
    if code == 0:
        record_outcome(timer, folder, flags)
    return code


def read_records(records: str) -> list[Row]:
    """The runs that were written down.

    Raises:
        DataError: the file cannot be read, or a line of it is no run.
    """
    try:
        return read_runs(Path(records))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"--records {records}: cannot be read: {error}; name another file.") from None


def split_flags(argv: list[str], own: set[str]) -> tuple[list[str], list[str]]:
    """Words of flags that are the race's own, and all others."""
    mine: list[str] = []
    others: list[str] = []
    side = others
    for arg in argv:
        if arg.startswith("--"):
            side = mine if set(collect_flags([arg])) <= own | {"help"} else others
        side.append(arg)
    return mine, others


def machine_key() -> dict[str, object]:
    """Return what identifies the machine; only times on one machine are compared."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return {"cpu": processor(), "cores": cores(), "gpu": gpu}


def record_outcome(timer: Timer, folder: RunFolder, flags: Flags) -> None:
    """Record and print the outcome."""
    display = Display()
    figures = json.loads(read_regular(folder.summary, TEXT))
    recipe = to_table(read_saved_recipe(folder.recipe))
    outcome = timer.outcome(figures, recipe, machine_key())
    write_atomic(folder.path / "speedrun.json", json.dumps(outcome, indent=1, allow_nan=False) + "\n")
    if timer.seconds is None:
        near = min(loss for _, loss in timer.curve)
        display.say(
            f"The target {timer.target:g} was not reached in {figures['wall_seconds']:.1f} s: it came to {near:.4f}, "
            f"{near - timer.target:.4f} above it."
        )
    else:
        display.say(f"The target {timer.target:g} was reached {timer.seconds:.1f} s after the start of the process.")
    if flags.records:
        append_run(Path(flags.records), outcome)


def run_seeds(flags: Flags, argv: list[str]) -> int:
    """Run as many seeds as asked for, one after another, and say what they come to together."""
    seed, argv = first_seed(argv)
    outcomes: list[Row] = []
    here = Path(nanotx.__file__).resolve().parents[1]  # a checkout need not be installed
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(here), *sys.path])}
    base = find_folder(flags.run, Path(next(iter(positional_args(argv)), "record")).stem, resume=False).path.as_posix()
    for run_seed in range(seed, seed + flags.seeds):
        folder = f"{base}-{run_seed}"
        command = [*argv, "--seed", str(run_seed), "--run", folder, "--target", repr(flags.target)]
        command += ["--records", flags.records] if flags.records else []
        done = subprocess.run([sys.executable, "-m", "nanotx", "speedrun", *command], env=environment, check=False)
        if done.returncode:
            return done.returncode
        outcomes.append(json.loads(read_regular(Path(folder) / "speedrun.json", TEXT)))
    Display().say(summarize(outcomes, flags.target))
    return 0


def first_seed(argv: list[str]) -> tuple[int, list[str]]:
    """The seed that is asked for, or else that of recipes, and the words without it.

    Raises:
        ConfigError: it is no whole number.
    """
    values = collect_flags(argv).get("seed")
    if values is None:
        return Recipe().seed, argv
    value = " ".join(values[0])
    if not value.isdecimal():
        raise ConfigError(f"--seed: expected a whole number of at least 0, got {value!r}.")
    at = next(index for index, arg in enumerate(argv) if arg.partition("=")[0] == "--seed")
    return int(value), argv[:at] + argv[at + (1 if "=" in argv[at] else 2) :]


def summarize(outcomes: list[Row], target: float) -> str:
    """Summarise the outcomes of several seeds in a sentence."""
    losses = sorted(outcome["val_loss"] for outcome in outcomes)
    text = f"{len(outcomes)} seeds: losses {', '.join(f'{loss:.4f}' for loss in losses)}"
    times = [outcome["seconds"] for outcome in outcomes if outcome["reached"]]
    if len(times) < len(outcomes):
        return f"{text}; {len(times)} of them reached {target:g}, so it is no record."
    middle = statistics.median(times)
    few = "" if len(times) >= SEEDS else f" A record takes {SEEDS} seeds."
    return f"{text}; all reached {target:g}, in {middle:.1f} s by the median.{few}"
