"""Recipes trained whole, as a user would: `nanotx train` in a process of its own for each seed, watched from outside.

The clock starts before the process does, so that what Python and torch need to start is counted.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import Row
from harness.race_rows import reaches
from harness.report import Announce
from harness.timing import confidence_interval
from harness.watching import Watched, train
from nanotx.cli.run import recipe_names
from nanotx.errors import ConfigError, did_you_mean


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A recipe to run, and the loss that is waited for."""

    recipe: str  # a name, or a file
    target: float | None


def wanted(recipes: str, targets: str) -> list[Wanted]:
    """The recipes of these names and the targets, both separated by commas.

    Raises:
        ConfigError: there is none of some name; targets are neither one nor as many as recipes; one is no loss.
    """
    names = [name.strip() for name in recipes.split(",")] if recipes else []
    for name in names:
        if name not in recipe_names() and not (name.endswith(".toml") and Path(name).is_file()):
            raise ConfigError(
                f"--recipes {name}: no such recipe.{did_you_mean(name, recipe_names())} "
                f"Known: {', '.join(recipe_names())}; "
                "or a file that ends in .toml."
            )
    losses = [loss_of(word) for word in targets.split(",")] if targets else [None]
    if len(losses) not in (1, len(names) or 1):
        raise ConfigError(f"--target: expected one loss, or one for each of {len(names)} recipes, got {len(losses)}.")
    each = losses * len(names) if len(losses) == 1 else losses
    return [Wanted(recipe=name, target=target) for name, target in zip(names, each, strict=True)]


def loss_of(word: str) -> float:
    """A loss above zero.

    Raises:
        ConfigError: it is none.
    """
    try:
        loss = float(word)
    except ValueError:
        loss = 0.0
    if not 0 < loss < float("inf"):
        raise ConfigError(f"--target: expected losses above 0 such as 1.4697, separated by commas, got {word!r}.")
    return loss


def run_all(wishes: Sequence[Wanted], seeds: Sequence[int], words: Sequence[str], tell: Announce) -> list[Row]:
    """A row for each recipe; they take turns, seed by seed. `words` are flags of `nanotx train` for all of them."""
    seen: list[list[Watched]] = [[] for _ in wishes]
    starts: list[list[float]] = [[] for _ in wishes]
    for seed in seeds:
        for index, wish in enumerate(wishes):
            tell(f"{Path(wish.recipe).stem}, seed {seed}")
            own = [wish.recipe, "--seed", str(seed), *words]
            first = train([*own, "--no-compile"], until_first=True).when("step")
            starts[index] += [] if first is None else [first]
            seen[index].append(train(own))
    return [row_of(*one, seeds) for one in zip(wishes, seen, starts, strict=True)]


def row_of(wish: Wanted, seen: Sequence[Watched], starts: Sequence[float], seeds: Sequence[int]) -> Row:
    """The figures of a recipe: losses by their mean and its interval, all else by the middle over the seeds."""
    figures = [one.figures for one in seen]
    ends = [one["val_loss"] for one in figures]
    curves = [[(at, row["val_loss"]) for at, row in one.rows if row["event"] == "eval"] for one in seen]
    reached = [seconds for curve in curves if (seconds := reaches(curve, wish.target)) is not None]
    first: dict[str, Any] = figures[0]
    same = ("device", "dtype", "compiled", "threads", "parameters", "steps", "tokens", "peak_flops")
    return {
        "name": Path(wish.recipe).stem,
        "pass": "run",
        **{key: first[key] for key in same},
        "seeds": list(seeds),
        "losses": ends,
        "val_loss": statistics.fmean(ends),
        "val_loss_interval": confidence_interval(ends),
        **{key: middle([one[key] for one in figures]) for key in ("bits_per_byte", "train_seconds")},
        "wall_seconds": middle([one.seconds for one in seen]),
        "target": wish.target,
        "reached": len(reached) if wish.target else None,
        "target_seconds": middle(reached) if wish.target and len(reached) == len(seen) else None,
        "nearest": min(loss for curve in curves for _, loss in curve),
        "start_seconds": middle(starts),
        "first_step_seconds": middle([at for one in seen if (at := one.when("step")) is not None]),
        "compile_seconds": middle([compiling(one) for one in seen]) if first["compiled"] is True else None,
        **{key: middle([one[key] for one in figures]) for key in ("tokens_per_second", "mfu")},
        "memory_mb": middle([one.peak and one.peak / 1e6 for one in seen]) if first["device"] == "cpu" else None,
    }


def middle(values: Sequence[float | None]) -> float | None:
    """The median of what is known."""
    known_ones = [value for value in values if value is not None]
    return statistics.median(known_ones) if known_ones else None


def compiling(seen: Watched) -> float | None:
    """How much longer the first step took than the middle one."""
    size = next(row["tokens_per_step"] for _, row in seen.rows if row["event"] == "start")
    took = [size / row["tokens_per_second"] for _, row in seen.rows if row["event"] == "step"]
    return max(0.0, took[0] - statistics.median(took)) if took else None
