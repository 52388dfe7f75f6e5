"""From what a race found to its rows; what was not measured is None."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness import Row
from harness.contenders import CONTENDERS, REFERENCE
from harness.judging import CASES
from harness.racing import Found
from harness.timing import confidence_interval, iqr, ratio
from harness.workers import Began
from nanotx.recipe import Recipe

OTHER = "transformers_compiled"
"""The rival at its best, of which there is a ratio too."""
Curve = list[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class About:
    """What stands in every row of a race."""

    label: str  # the recipe's name
    recipe: Recipe
    device: str
    flops_per_token: int
    peaks: Mapping[str, float]  # operations a second, by device and dtype
    target: float | None  # the loss that is waited for


def rows_of(about: About, names: tuple[str, ...], found: Found) -> list[Row]:
    """A row for each contender."""
    return [row_of(name, about, found) for name in names]


def row_of(name: str, about: About, found: Found) -> Row:
    """The figures of one contender."""
    model, batch, began = about.recipe.model, about.recipe.train.batch_size, found.began.get(name)
    own: Any = model.attentions()[0]
    who = CONTENDERS[name]
    return {
        "name": name,
        "device": about.device,
        "dtype": began.dtype if began else None,
        "compiled": began.compiled if began else None,
        "compile_reason": began.reason if began else None,
        "shape": about.label,
        "batch": batch,
        "time": model.context,
        "dim": model.dim,
        "heads": own.heads,
        "layers": model.layers,
        "dropout": found.dropout,
        "attention": None if who.library else who.attention or own.part,
        "parameters": began.parameters if began else None,
        "pass": "step",
        **speeds(name, about, found),
        "memory_mb": began.memory_mb if began else None,
        "start_seconds": found.starts.get(name),
        "compile_seconds": compiling(began),
        **losses(found.curves.get(name, []), about),
        "laws": found.verdicts[name],
        "cases": CASES,
    }


def speeds(name: str, about: About, found: Found) -> Row:
    """How long a step takes, and what follows from it."""
    taken, began = found.times.get(name), found.began.get(name)
    middle = statistics.median(taken) if taken else None
    speed = middle and about.recipe.train.batch_size * about.recipe.model.context / middle
    peak = about.peaks[f"{about.device} {began.dtype}"] if began else None
    return {
        "median_ms": middle and 1e3 * middle,
        "iqr_ms": 1e3 * iqr(taken) if taken else None,
        "rounds": len(taken or []),
        "tokens_per_second": speed,
        "flops_per_token": about.flops_per_token,
        "mfu": speed * about.flops_per_token / peak if speed and peak else None,
        "reference": REFERENCE,
        "ratio": ratio(found.times, name, REFERENCE),
        "speedup": ratio(found.times, REFERENCE, name),
        f"ratio_to_{OTHER}": ratio(found.times, name, OTHER),
    }


def compiling(began: Began | None) -> float | None:
    """How much longer the first step took for being compiled; None where it was not."""
    return max(0.0, began.first - began.later) if began and began.compiled else None


def losses(curves: list[Curve], about: About) -> Row:
    """What became of a whole training with each seed, and when it came to the target."""
    ends = [curve[-1][1] for curve in curves]
    reached = [seconds for curve in curves if (seconds := reaches(curve, about.target)) is not None]
    seed = about.recipe.seed
    return {
        "seeds": list(range(seed, seed + len(curves))),
        "losses": ends,
        "val_loss": statistics.fmean(ends) if ends else None,
        "val_loss_interval": confidence_interval(ends),
        "train_seconds": statistics.median(curve[-1][0] for curve in curves) if curves else None,
        "target": about.target,
        "reached": len(reached) if curves and about.target else None,
        "target_seconds": statistics.median(reached) if curves and len(reached) == len(curves) else None,
        "nearest": min(loss for curve in curves for _, loss in curve) if curves else None,
    }


def reaches(curve: Curve, target: float | None) -> float | None:
    """The seconds at the first loss at or under the target; None for never."""
    return next((seconds for seconds, loss in curve if target is not None and loss <= target), None)
