"""Scaling: a recipe and a change of it at several sizes, the power laws of their losses, and where they cross."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nanotx.experiments import power_law
from nanotx.experiments.dial import Size
from nanotx.experiments.experiment import Outcome
from nanotx.experiments.plan import BASELINE
from nanotx.experiments.power_law import Crossing, Fit
from nanotx.experiments.report import columns, folded, number, span
from nanotx.experiments.statistics import Losses, Verdict

FAR = 10.0
"""How many times beyond the sizes a crossing may lie; farther out a straight line is a guess."""


FEW = 100
"""Steps below which a training says little about a law."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """An arm over the sizes."""

    name: str
    flops: tuple[float, ...]
    losses: tuple[Losses, ...]  # of each size by seed; None for a run that diverged
    fit: Fit | None  # None where a run diverged


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """A recipe at several sizes, and one change of it, if there is one."""

    sizes: tuple[Size, ...]
    outcomes: tuple[Outcome, ...]
    curves: tuple[Curve, ...]  # the recipe first
    crossing: Crossing | None  # None without a change, or where a run diverged

    @property
    def unit(self) -> str:
        """The unit of the losses."""
        return self.outcomes[0].unit


def scaling_of(sizes: Sequence[Size], outcomes: Sequence[Outcome], floor: float = 0.0) -> Scaling:
    """Return the curves of the arms of experiments at several sizes.

    Args:
        sizes: of the recipe, the smallest first.
        outcomes: of the experiment at each size; all of the same arms.
        floor: a loss that no model can go below.

    Raises:
        ConfigError: a loss is not above the floor.
    """
    names = [arm.name for arm in outcomes[0].design.arms]
    measured = {name: points_of(outcomes, place) for place, name in enumerate(names)}
    reference = math.exp(float(np.mean(np.log(measured[BASELINE][0]))))
    curves = []
    for name, (flops, losses) in measured.items():
        finite = all(loss is not None and math.isfinite(loss) for some in losses for loss in some)
        fit = power_law.fit(flops, np.array(losses, dtype=float).T, floor, reference) if finite else None
        curves.append(Curve(name=name, flops=flops, losses=losses, fit=fit))
    fits = [curve.fit for curve in curves if curve.fit is not None]
    crossing = power_law.crossing(*fits) if len(fits) == 2 else None
    return Scaling(sizes=tuple(sizes), outcomes=tuple(outcomes), curves=tuple(curves), crossing=crossing)


def points_of(outcomes: Sequence[Outcome], place: int) -> tuple[tuple[float, ...], tuple[Losses, ...]]:
    """Return the FLOPs of an arm's training at each size, and its losses by seed."""
    flops = []
    for outcome in outcomes:
        facts, steps = outcome.facts[place], outcome.steps[place]
        flops.append(facts.flops_per_token * facts.tokens_per_step * steps)
    name = outcomes[0].design.arms[place].name
    return tuple(flops), tuple(outcome.losses[name] for outcome in outcomes)


# The page.


def page(scaling: Scaling) -> str:
    """Return what was found, in lines of at most 80 columns."""
    blocks = [heading(scaling), table(scaling), "\n".join(laws(scaling)), "\n".join(conclusions(scaling))]
    return "\n\n".join(block for block in blocks if block)


def heading(scaling: Scaling) -> str:
    """Return what was trained."""
    design, count = scaling.outcomes[0].design, len(scaling.sizes)
    return folded(
        f"{design.name} at {count} sizes, {len(design.seeds)} seed{'s' * (len(design.seeds) > 1)} each "
        f"({span(design.seeds)}), judged on the last {design.held_out:.0%} of the training text. "
        "Heads keep their width; layers grow with the width, tokens with the FLOPs of a token.",
        "",
    )


def table(scaling: Scaling) -> str:
    """Return a line for each size: what it is, what it costs, and the losses of the arms."""
    names = [curve.name for curve in scaling.curves]
    unit = "nats" if scaling.unit == "nats" else "bits/byte"
    pair = len(names) > 1
    rows = [["size", "steps", "FLOPs", unit, *(["changed", "difference", "95% interval"] if pair else ["weights"])]]
    for place, (size, outcome) in enumerate(zip(scaling.sizes, scaling.outcomes, strict=True)):
        facts, mean = outcome.facts[0], average(scaling.curves[0].losses[place])
        row = [size.name, f"{outcome.steps[0]:,}", f"{size.flops:.2e}", number(mean)]
        changed = (
            [number(average(scaling.curves[1].losses[place])), *difference(outcome.verdicts[names[1]])] if pair else []
        )
        rows.append([*row, *(changed or [f"{facts.parameters:,}"])])
    return columns(rows)


def difference(verdict: Verdict) -> list[str]:
    """Return the cells of a paired difference and its interval."""
    middle = "" if verdict.difference is None else f"{verdict.difference:+.4f}"
    ends = verdict.interval
    return [middle, f"{ends[0]:+.4f} to {ends[1]:+.4f}" if ends else ""]


def average(losses: Losses) -> float | None:
    """Return the mean of losses; None if a run diverged."""
    finite = [loss for loss in losses if loss is not None and math.isfinite(loss)]
    return sum(finite) / len(finite) if finite and len(finite) == len(losses) else None


def laws(scaling: Scaling) -> list[str]:
    """Return the fitted law of each arm in words."""
    lines = []
    for curve in scaling.curves:
        if curve.fit is None:
            lines.append(folded(f"{curve.name}: a run diverged, so nothing is fitted.", "  "))
            continue
        fit, floor = curve.fit, f"{curve.fit.floor:g} + " if curve.fit.floor else ""
        ends = fit.exponent_interval
        interval = f" (95% interval {ends[0]:.4f} to {ends[1]:.4f})" if ends else ""
        lines.append(
            folded(
                f"{curve.name}: {scaling.unit} = {floor}{fit.scale:.4f} x (FLOPs / {fit.reference:.2e})^-"
                f"{fit.exponent:.4f}{interval}; the sizes are off that line by {fit.misfit:.1%} at most",
                "  ",
            )
        )
    least = min(outcome.steps[0] for outcome in scaling.outcomes)
    if least < FEW:
        lines.append(
            folded(
                f"The shortest training has {least} step{'s' * (least > 1)}, mostly warm-up: take more --train.steps "
                "for a law.",
                "",
            )
        )
    if len(scaling.sizes) == 2:
        lines.append(folded("Two sizes are always on a line: take three or more to see whether it is straight.", ""))
    return lines


def conclusions(scaling: Scaling) -> list[str]:
    """Return what the curves of two arms say of each other."""
    if len(scaling.curves) < 2 or scaling.crossing is None:
        return []
    base, changed = scaling.curves[0], scaling.curves[1]
    assert base.fit is not None and changed.fit is not None
    losses = [loss or 0.0 for loss in base.losses[-1]], [loss or 0.0 for loss in changed.losses[-1]]
    times, interval = power_law.worth(base.fit, (base.flops[-1], changed.flops[-1]), losses)
    ends = f" (95% interval {interval[0]:.3g} to {interval[1]:.3g})" if interval else ""
    lines = [
        folded(
            f"At {scaling.sizes[-1].name} the baseline would need {times:.3g} times the FLOPs of {changed.name} to "
            f"reach its loss{ends}.",
            "",
        ),
        folded(crossing_words(scaling.crossing, base, changed), ""),
    ]
    return lines


def crossing_words(crossing: Crossing, base: Curve, changed: Curve) -> str:
    """Return where the two lines cross, as far as that is known."""
    low, high = min(base.flops + changed.flops), max(base.flops + changed.flops)
    if crossing.flops is None or crossing.interval is None:
        return "Where the lines cross, if they do, these seeds and sizes do not tell."
    first, last = crossing.interval
    if last < low / FAR or first > high * FAR:
        side = "below" if last < low else "above"
        return f"The lines do not cross within {FAR:g} times of these sizes; if they stay straight, far {side} them."
    assert base.fit is not None and changed.fit is not None
    lower = changed.name if changed.fit.exponent > base.fit.exponent else base.name
    beyond = "" if low <= crossing.flops <= high else ", which no size here reaches: take it as a guess"
    return (
        f"The lines cross at {crossing.flops:.2e} FLOPs (95% interval {first:.2e} to {last:.2e}){beyond}; above that "
        f"{lower} is lower."
    )


def to_json(scaling: Scaling) -> dict[str, Any]:
    """Return the curves, laws and crossing as plain values."""
    design = scaling.outcomes[0].design
    return {
        "recipe": design.name,
        "seeds": list(design.seeds),
        "unit": scaling.unit,
        "sizes": [
            {"dim": size.recipe.model.dim, "layers": size.recipe.model.layers, "steps": outcome.steps[0],
             "parameters": outcome.facts[0].parameters, "flops": size.flops}
            for size, outcome in zip(scaling.sizes, scaling.outcomes, strict=True)
        ],
        "arms": [
            {"name": curve.name, "flops": list(curve.flops), "losses": [list(some) for some in curve.losses],
             "fit": None if curve.fit is None else vars(curve.fit)}
            for curve in scaling.curves
        ],
        "crossing": None if scaling.crossing is None else vars(scaling.crossing),
    }  # fmt: skip
