"""What it costs to watch a run: steps with the dashboard, and with each logger, compared with bare steps.

    python benchmarks/watching.py --device cpu --json benchmarks/results/watching-cpu.json
    python benchmarks/watching.py --recipes macbook --steps 20 --rounds 9

Turns of steps are timed interleaved in one process, and `ratio` is the ratio of medians. On a machine with other work
the times spread more than watching costs; `cpu_ratio` is the same of the processor time of this process, which other
processes disturb less. The dashboard draws to a terminal that takes everything at once: what a real terminal does with
it is work of another process. Every contender writes metrics.jsonl, as every run does.
"""

import math
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median

from harness import Row
from harness.machine import choose_machines, describe
from harness.recipes import read_recipe, trainer_of
from harness.report import Flags, open_output, progress, write_json
from harness.tables import number, open_console, print_table, word
from harness.timing import iqr, seconds, turn_order
from rich.console import Console

from nanotx.cli.dashboard import Display, Silent
from nanotx.cli.entry import run_and_exit
from nanotx.cli.run import read_callback
from nanotx.config.flags import parse
from nanotx.config.schema import check_min
from nanotx.hardware.device import Machine
from nanotx.runs.callbacks import Display as AnyDisplay
from nanotx.runs.callbacks import Guarded, RunFiles, Shown
from nanotx.runs.folder import RunFolder
from nanotx.runs.metrics_log import MetricsLog
from nanotx.training.dataset import Dataset
from nanotx.training.loop import TrainingRun
from nanotx.training.signals import Stop
from nanotx.training.trainer import Trainer

SIZES = {"dashboard": (80, 24), "dashboard_wide": (200, 50)}
"""The terminals, in columns and lines."""

COLUMNS = {
    "recipe": word("recipe"),
    "watched by": word("name"),
    "step, ms": number("median_ms", ".2f"),
    "iqr": number("iqr_ms", ".2f"),
    "costs": number("cost", "+.2%"),
    "cpu, ms": number("cpu_ms", ".2f"),
    "costs cpu": number("cpu_cost", "+.2%"),
}


@dataclass(frozen=True, kw_only=True)
class WatchingFlags(Flags):
    """Times steps that are watched, and steps that are not."""

    recipes: str = "macbook"  # presets, or files, separated by commas
    watched: str = "dashboard,dashboard_wide,csv,tensorboard"  # contenders, besides the bare steps
    steps: int = 100  # of a turn
    rounds: int = 7  # turns of each contender
    limit: float = math.inf  # seconds after which no round begins, except for the first three


def main() -> int:
    """Read the flags, train watched and not, show, write."""
    flags = parse(WatchingFlags, sys.argv[1:], "watching.py")
    check_min(flags, 1, "steps")
    check_min(flags, 2, "rounds")
    machine, out = choose_machines(flags.device, flags.threads, "float32")[0], open_output(flags.json)
    names, rows = flags.recipes.split(","), list[Row]()
    for name in names:
        read_recipe(name, "--recipes")
    with progress(total=len(names)) as announce:
        for name in names:
            announce(f"watching {name}")
            rows += rows_of(name, flags, machine)
    write_json(out, describe([machine]), rows)
    print_table(open_console(), "", COLUMNS, rows)
    return 0


def rows_of(name: str, flags: WatchingFlags, machine: Machine) -> list[Row]:
    """Return what watching a recipe costs, a row per contender."""
    names = ["bare", *filter(None, flags.watched.split(","))]
    walls: dict[str, list[float]] = {contender: [] for contender in names}
    cpus: dict[str, list[float]] = {contender: [] for contender in names}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        trainer, data = trainer_of(name, machine)
        turns = {contender: turn_of(contender, trainer, data, folder, flags.steps, stack) for contender in names}
        turns["bare"]()
        for contender in turn_order(names, flags.rounds, flags.limit):
            began = time.process_time()
            walls[contender].append(seconds(turns[contender], 1, machine.device) / flags.steps)
            cpus[contender].append((time.process_time() - began) / flags.steps)
    bare, bare_cpu, tokens = median(walls["bare"]), median(cpus["bare"]), trainer.recipe.train.batch_size
    return [
        {
            "name": contender,
            "recipe": Path(name).stem,
            "device": machine.device.type,
            "dtype": machine.dtype_name,
            "threads": machine.threads,
            "median_ms": 1000 * median(walls[contender]),
            "iqr_ms": 1000 * iqr(walls[contender]),
            "tokens_per_second": tokens * trainer.model.context / median(walls[contender]),
            "ratio": median(walls[contender]) / bare,
            "cost": median(walls[contender]) / bare - 1,
            "cpu_ms": 1000 * median(cpus[contender]),
            "cpu_ratio": median(cpus[contender]) / bare_cpu,
            "cpu_cost": median(cpus[contender]) / bare_cpu - 1,
            "rounds": len(walls[contender]),
            "load": list(os.getloadavg()),
        }
        for contender in names
    ]


def turn_of(
    name: str, trainer: Trainer, data: Dataset, folder: Path, steps: int, stack: ExitStack
) -> Callable[[], None]:
    """Return a function that takes the steps of one turn, watched by a contender."""
    own = RunFolder(folder / name)
    own.path.mkdir()
    log = stack.enter_context(closing(MetricsLog(own.metrics, 0)))
    display = display_of(name, stack)
    callbacks = [] if name == "bare" or name in SIZES else [read_callback(name, "--watched")]
    files = RunFiles(own, log, lambda: None, 0)
    run = TrainingRun(
        trainer,
        callbacks=callbacks,
        own=(files, Shown(Guarded(display))),
        save=lambda: None,
        stop=Stop(),
        tokenizer=data.codec,
        folder=own.path,
    )
    stack.callback(run.close)
    start = {"event": "start", "step": 0, "steps": 1_000_000, "title": name, "floor": None}
    run.publish(start | {"tokens_per_step": trainer.recipe.train.batch_size * trainer.model.context})

    def turn() -> None:
        with display:
            for row in islice(trainer.rows(), steps):
                row.pop("warning", "")
                run.publish(row)
                run.after_step()

    return turn


def display_of(name: str, stack: ExitStack) -> AnyDisplay:
    """Return the display of a contender: a terminal of its size, or none."""
    if name not in SIZES:
        return Silent()
    terminal = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  the stack closes it
    stack.callback(terminal.close)
    width, height = SIZES[name]
    return Display(Console(file=terminal, force_terminal=True, color_system="256", width=width, height=height))


if __name__ == "__main__":
    run_and_exit(main)
