"""Tune a recipe: random tries, halved by their losses, and a verdict on seeds that had no part in the choice.

A try is a random point of some fields. All tries begin with one seed, the best third continues on three, and the
lowest mean of these is chosen: successive halving over seeds, so that no schedule is cut short. Tries may have a share
of the budget, with a schedule of that length; the verdict has all of it. What is chosen for
being lowest is flattered by that, so it and the recipe are trained again on other seeds, and only those are judged.

How many tries fit into the time is decided once, from the measured time of a step, and recorded: a tuning that was
killed continues with the same tries. Where their number is given, no clock decides anything.

Source: Karnin, Koren and Somekh 2013, https://proceedings.mlr.press/v28/karnin13.html, algorithm 3; here a round adds
seeds, and keeps a third.
"""

import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nanotx.config.toml import write_toml
from nanotx.errors import ConfigError, RunError, printable
from nanotx.experiments.report import verdict_words
from nanotx.experiments.statistics import Verdict
from nanotx.files import read_regular, write_atomic
from nanotx.recipe import Recipe
from nanotx.runs.valid import TEXT

SEEDS = (1, 3)
"""Seeds of a try in each round."""

KEEP = 3
"""The number of tries of which one reaches the next round."""

VERDICT_SEEDS = 5
"""Seeds of the verdict, which have no part in the choice."""

FEWEST, MOST = 3, 200
"""Tries."""

BEYOND = 1000
"""Distance of the first seed of the verdict from that of the tries."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The tries that fit into a budget of time."""

    tries: int
    run_seconds: float | None = None  # estimated time of a run; None where the tries were given

    def survivors(self, number: int) -> int:
        """Return how many tries are trained in a round; the first is 0."""
        return max(1, math.ceil(self.tries / KEEP**number))

    @property
    def runs(self) -> int:
        """Return the runs of all rounds and of the verdict; the recipe as it is takes part in each."""
        new = [after - before for before, after in zip((0, *SEEDS), SEEDS, strict=False)]
        return sum((self.survivors(index) + 1) * seeds for index, seeds in enumerate(new)) + 2 * VERDICT_SEEDS

    def whole_runs(self, share: float) -> float:
        """Return how many runs of the whole budget take as long as all, where tries have a share of it."""
        judged = 2 * VERDICT_SEEDS
        return (self.runs - judged) * share + judged


def plan_of(seconds: float, run_seconds: float, processes: int, share: float = 1.0) -> Plan:
    """Return the plan with the most tries that fit.

    Args:
        seconds: the budget.
        run_seconds: estimated time of a run.
        processes: runs that are trained side by side.
        share: of the recipe's budget that tries have.

    Raises:
        ConfigError: not even the fewest fit; says what would.
    """
    room = seconds * processes / run_seconds
    plans = [Plan(tries=tries, run_seconds=run_seconds) for tries in range(FEWEST, MOST + 1)]
    fitting = [plan for plan in plans if plan.whole_runs(share) <= room]
    if not fitting:
        least = plans[0].whole_runs(share) * run_seconds / processes
        raise ConfigError(
            f"--budget: a run takes some {run_seconds:.3g} s, and the fewest tries with their verdict are "
            f"{plans[0].runs} runs; try --budget {math.ceil(least / 60)}m, or a smaller --share or --train.steps."
        )
    return fitting[-1]


def recorded_plan(folder: Path, question: Mapping[str, Any], make: Callable[[], Plan]) -> Plan:
    """Return the plan in a folder, or make and record one.

    Args:
        folder: of the tuning.
        question: what decides the plan beside the clock; may not change.
        make: measures, and returns the plan.

    Raises:
        ConfigError: the folder holds another tuning.
        RunError: its record cannot be read.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--out {folder}: not a folder; choose another.")
    file = folder / "tuning.json"
    if not file.exists():
        plan = make()
        folder.mkdir(parents=True, exist_ok=True)
        record = {"asked": dict(question), "tries": plan.tries, "run_seconds": plan.run_seconds}
        write_atomic(file, json.dumps(record, indent=1, allow_nan=False) + "\n")
        return plan
    try:
        record = json.loads(read_regular(file, TEXT))
        before, seconds = record["asked"], record["run_seconds"]
        plan = Plan(tries=int(record["tries"]), run_seconds=None if seconds is None else float(seconds))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{file}: cannot be read: {error}; choose another --out.") from None
    for key, value in question.items():
        if before.get(key) != value:
            raise ConfigError(
                f"--out {folder}: holds a tuning that differs in {key} ({before.get(key)!r:.60}, now {value!r:.60}); "
                "choose another folder, or give the same flags to continue it."
            )
    return plan


def shortened(recipe: Recipe, share: float) -> Recipe:
    """Return a recipe with a share of its budget; its schedule spans that."""
    name, amount = recipe.train.budget
    part = amount * share if isinstance(amount, float) else max(1, round(amount * share))
    change: dict[str, Any] = {name: part}
    return replace(recipe, train=replace(recipe.train, **change))


def ranked(losses: Mapping[str, Sequence[float | None]]) -> list[str]:
    """Return the names of tries by their mean loss, the lowest first, without those of which a run diverged."""
    means = {
        name: statistics.fmean(loss for loss in some if loss is not None)
        for name, some in losses.items()
        if some and all(loss is not None and math.isfinite(loss) for loss in some)
    }
    return sorted(means, key=lambda name: means[name])


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """The evidence for a tuned recipe."""

    name: str  # of the recipe that was tuned
    change: str  # of it
    recipe: Recipe  # the changed one
    tries: tuple[int, ...]  # in each round
    share: float  # of the budget, that tries had
    drawn_from: tuple[str, ...]  # the ranges, as they were typed
    steps: tuple[int, int]  # of the recipe and of the tuned one
    equal: str  # what both have the same of
    seeds: tuple[int, int]  # the first and the last of the verdict
    held_out: float  # share of the training text that decided
    losses: tuple[float, float]  # of the recipe and of the tuned one, mean of those seeds
    unit: str
    verdict: Verdict
    command: str  # repeats the tuning


def recipe_file(evidence: Evidence) -> str:
    """Return the tuned recipe as TOML, with the evidence as a comment on top."""
    counts = zip(evidence.tries, SEEDS, strict=True)
    rounds = ", ".join(f"{count} on {seeds} seed{'s' * (seeds > 1)}" for count, seeds in counts)
    (first, last), (base, tuned), steps = evidence.seeds, evidence.losses, evidence.steps
    p, share = evidence.verdict.p or 0.0, f", {evidence.share:g} of the budget each" if evidence.share < 1 else ""
    lines = [
        f"{evidence.name}, tuned: {evidence.change}.",
        f"On seeds {first} to {last}, which had no part in the choice, it is "
        f"{verdict_words(evidence.verdict, evidence.unit)}:",
        f"{evidence.name} {base:.4f}, this {tuned:.4f}; paired t test, p {'<0.001' if p < 0.001 else f'{p:.3f}'}.",
        f"Both take {steps[0]:,} steps."
        if evidence.equal == "steps"
        else f"Equal {evidence.equal}: {evidence.name} {steps[0]:,} steps, this {steps[1]:,}.",
        f"Judged on the last {evidence.held_out:.0%} of the training text; the validation text was not read.",
        f"Chosen from random tries ({rounds}{share}) of {'; '.join(evidence.drawn_from)}.",
        f"Again: {evidence.command}",
    ]
    return "".join(f"# {' '.join(printable(line).split())}\n" for line in lines) + "\n" + write_toml(evidence.recipe)
