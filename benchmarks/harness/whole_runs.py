"""Recipes trained whole, as a user would: `nanotx train` in a process of its own per seed, watched from outside.

The clock starts before the process does, so the time that Python and torch need to start is included.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import Row
from harness.processes import environment, resident_peak
from harness.race import target_figures
from harness.report import Announce
from harness.timing import confidence_interval, median
from nanotx.cli.recipe_list import recipe_names
from nanotx.errors import ConfigError, RunError, did_you_mean
from nanotx.runs.folder import RunFolder

POLL = 0.01
"""Seconds between two looks at a process."""


PHASES = {
    "start": "start",
    "step": "steps",
    "eval": "evaluations",
    "sample": "samples",
    "checkpoint": "checkpoints",
    "end": "end",
}
"""Kinds of work, by the event of the row that is written when it is done."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A recipe to run, and the validation loss to reach."""

    recipe: str  # a name, or a file
    target: float | None


def choose_recipes(recipes: str, targets: str) -> list[Wanted]:
    """Return the recipes with these names and the targets, both separated by commas.

    Raises:
        ConfigError: there is no such recipe; targets are neither one nor as many as recipes; a target is not a loss.
    """
    names = [name.strip() for name in recipes.split(",")] if recipes else []
    for name in names:
        if name not in recipe_names() and not (name.endswith(".toml") and Path(name).is_file()):
            raise ConfigError(
                f"--recipes {name}: no such recipe.{did_you_mean(name, recipe_names())} "
                f"Known: {', '.join(recipe_names())}; or a file that ends in .toml."
            )
    losses = [parse_target(word) for word in targets.split(",")] if targets else [None]
    if len(losses) not in (1, len(names) or 1):
        raise ConfigError(f"--target: expected one loss, or one for each of {len(names)} recipes, got {len(losses)}.")
    each = losses * len(names) if len(losses) == 1 else losses
    return [Wanted(recipe=name, target=target) for name, target in zip(names, each, strict=True)]


def parse_target(word: str) -> float:
    """Return a loss above zero.

    Raises:
        ConfigError: it is not one.
    """
    try:
        loss = float(word)
    except ValueError:
        loss = 0.0
    if not 0 < loss < float("inf"):
        raise ConfigError(f"--target: expected losses above 0 such as 1.4697, separated by commas, got {word!r}.")
    return loss


@dataclass(kw_only=True)
class Observed:
    """What was observed of a run."""

    seconds: float = 0.0  # from its start to its end
    peak: int | None = None  # bytes of memory
    rows: list[tuple[float, Row]] = field(default_factory=list)  # of its metrics log, and when each came
    summary: Row = field(default_factory=dict)

    def when(self, event: str) -> float | None:
        """Return when the first row of an event came."""
        return next((seconds for seconds, row in self.rows if row["event"] == event), None)

    def phases(self) -> dict[str, float]:
        """Return the seconds that each kind of work took, which add up to those of the run.

        A row is written when its work is done, so the time since the row before it is that work's.
        """
        seconds, before = dict.fromkeys(PHASES.values(), 0.0), 0.0
        for at, row in self.rows:
            if row["event"] in PHASES:
                seconds[PHASES[row["event"]]] += at - before
                before = at
        seconds["end"] += self.seconds - before
        return seconds

    def compile_seconds(self) -> float | None:
        """Return how much longer the first step took than the median one."""
        size = next(row["tokens_per_step"] for _, row in self.rows if row["event"] == "start")
        taken = [size / row["tokens_per_second"] for _, row in self.rows if row["event"] == "step"]
        return max(0.0, taken[0] - statistics.median(taken)) if taken else None


def run_all(
    wanted: Sequence[Wanted],
    seeds: Sequence[int],
    words: Sequence[str],
    announce: Announce,
    peer: Callable[[int], Row] | None = None,
) -> list[Row]:
    """Return a row for each recipe, and one for a peer; they take turns, seed by seed.

    Args:
        wanted: the recipes.
        seeds: of their runs.
        words: flags of `nanotx train` for all.
        announce: told what runs.
        peer: runs a peer's own program with a seed, and returns its `wall_seconds` and `val_loss`.
    """
    observed: list[list[Observed]] = [[] for _ in wanted]
    others = list[Row]()
    starts: list[list[float]] = [[] for _ in wanted]
    for seed in seeds:
        for index, wish in enumerate(wanted):
            announce(f"{Path(wish.recipe).stem}, seed {seed}")
            own = [wish.recipe, "--seed", str(seed), *words]
            first = train([*own, "--no-compile"], until_first=True).when("step")
            starts[index] += [] if first is None else [first]
            observed[index].append(train(own))
        if peer:
            announce(f"the peer, seed {seed}")
            others.append(peer(seed))
    rows = [row_of(*recipe, seeds) for recipe in zip(wanted, observed, starts, strict=True)]
    return beside(rows, others, [[run.seconds for run in runs] for runs in observed]) if others else rows


def beside(rows: list[Row], others: Sequence[Row], seconds: Sequence[Sequence[float]]) -> list[Row]:
    """Return the rows of recipes with their time in times of a peer's, turn by turn, and the row of the peer."""
    theirs = [row["wall_seconds"] for row in others]
    for row, ours in zip(rows, seconds, strict=True):
        row["ratio_to_peer"] = median([own / other for own, other in zip(ours, theirs, strict=True)])
    losses = [row["val_loss"] for row in others]
    figures = {"val_loss": statistics.fmean(losses), "val_loss_interval": confidence_interval(losses), "losses": losses}
    return [*rows, others[0] | figures | {"wall_seconds": median(theirs)}]


def row_of(wish: Wanted, observed: Sequence[Observed], starts: Sequence[float], seeds: Sequence[int]) -> Row:
    """Return the row of a recipe: losses by their mean and its interval, all else by the median over the seeds."""
    summaries = [run.summary for run in observed]
    ends = [summary["val_loss"] for summary in summaries]
    curves = [[(at, row["val_loss"]) for at, row in run.rows if row["event"] == "eval"] for run in observed]
    first: dict[str, Any] = summaries[0]
    same = ("device", "dtype", "compiled", "threads", "parameters", "steps", "tokens", "peak_flops")
    medians = ("bits_per_byte", "train_seconds", "tokens_per_second", "mfu")
    return {
        "name": Path(wish.recipe).stem,
        "pass": "run",
        **{key: first[key] for key in same},
        "seeds": list(seeds),
        "losses": ends,
        "val_loss": statistics.fmean(ends),
        "val_loss_interval": confidence_interval(ends),
        **{key: median([summary[key] for summary in summaries]) for key in medians},
        "wall_seconds": median([run.seconds for run in observed]),
        "phases": {name: median([run.phases()[name] for run in observed]) for name in PHASES.values()},
        **target_figures(curves, wish.target),
        "start_seconds": median(starts),
        "first_step_seconds": median([run.when("step") for run in observed]),
        "compile_seconds": median([run.compile_seconds() for run in observed]) if first["compiled"] is True else None,
        "memory_mb": median([run.peak and run.peak / 1e6 for run in observed]) if first["device"] == "cpu" else None,
    }


# One run, observed.


def train(words: Sequence[str], until_first: bool = False) -> Observed:
    """Run `nanotx train` with these words in a temporary folder, to its end or to its first step."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        folder = RunFolder(Path(place, "run"))
        command = [sys.executable, "-m", "nanotx", "train", *words, "--run", str(folder.path)]
        return observe(command, folder, Path(place, "output.txt"), until_first)


def observe(command: Sequence[str], folder: RunFolder, log: Path, until_first: bool = False) -> Observed:
    """Observe a command that makes a run's folder; its output goes into a file.

    Raises:
        RunError: it failed.
    """
    observed = Observed()
    with log.open("w", encoding="utf-8") as out:
        began = time.perf_counter()
        process = subprocess.Popen(command, env=environment(), stdout=out, stderr=subprocess.STDOUT)
        try:
            follow(process, folder.metrics, began, observed, until_first)
        finally:
            process.kill()
            process.wait()
    if until_first and observed.when("step") is not None:
        return observed
    if process.returncode or not folder.summary.is_file():
        last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        raise RunError(f"{' '.join(command[1:5])} ended with {process.returncode}: {''.join(last) or 'no output'}")
    observed.summary = json.loads(folder.summary.read_text(encoding="utf-8"))
    return observed


def follow(
    process: subprocess.Popen[bytes], metrics: Path, began: float, observed: Observed, until_first: bool
) -> None:
    """Read the metrics log as it grows, until the process ends, or has taken its first step."""
    read = 0
    while True:
        ended = process.poll() is not None
        observed.seconds = time.perf_counter() - began
        observed.peak = max(filter(None, (observed.peak, resident_peak(process.pid))), default=None)
        read += take_rows(metrics, read, observed)
        if ended or (until_first and observed.when("step") is not None):
            return
        time.sleep(POLL)


def take_rows(metrics: Path, read: int, observed: Observed) -> int:
    """Add the rows of a metrics log from a byte on; return how many bytes they have."""
    if not metrics.exists():
        return 0
    with metrics.open("rb") as file:
        file.seek(read)
        whole, end, _ = file.read().rpartition(b"\n")
    observed.rows += [(observed.seconds, json.loads(line)) for line in whole.splitlines()]
    return len(whole + end)
