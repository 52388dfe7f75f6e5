"""The response of a loss to the fields of a sweep: a mean and an interval for each point, and its picture in text."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from nanotx.experiments import student
from nanotx.experiments.vary import Point

LEVEL = 0.95
"""Of the intervals."""

WIDTH = 36
"""Columns of the picture in text."""


@dataclass(frozen=True, kw_only=True)
class Response:
    """What a point of a sweep reached."""

    point: Point
    mean: float | None = None  # of the losses over the seeds; None if a run diverged
    interval: tuple[float, float] | None = None  # of the mean, given that of the recipe: see `respond`
    diverged: int = 0  # runs without a finite loss
    is_recipe: bool = False  # the point is the recipe as it is
    verdict: str = ""  # what can be said of its difference from the recipe, in a few words

    @property
    def label(self) -> str:
        """The values of the point."""
        return ", ".join(self.point.values())


def respond(
    point: Point,
    losses: Sequence[float | None],
    recipe: Sequence[float | None],
    verdict: str = "",
    is_recipe: bool = False,
) -> Response:
    """Return the response at a point.

    The interval is that of the paired difference from the recipe, by Student's t, around the point's mean. It tells how
    far the point is from the recipe, and does not grow by what a seed does to both. It pays for no other point: read
    the shape of the response from it, and verdicts from the table.

    Args:
        point: the values of the fields.
        losses: of the point by seed; None for a run that diverged.
        recipe: of the recipe as it is, by the same seeds.
        verdict: on the point, in a few words.
        is_recipe: whether the point is that recipe.
    """
    finite = [loss for loss in losses if loss is not None and math.isfinite(loss)]
    if len(finite) < len(losses) or not finite:
        return Response(point=point, diverged=len(losses) - len(finite), verdict=verdict, is_recipe=is_recipe)
    mean = statistics.fmean(finite)
    pairs = [here - there for here, there in zip(finite, recipe, strict=False) if there is not None]
    interval = None
    if len(pairs) > 1 and not is_recipe:
        half = student.quantile(LEVEL, len(pairs) - 1) * statistics.stdev(pairs) / math.sqrt(len(pairs))
        interval = (mean - half, mean + half)
    return Response(point=point, mean=mean, interval=interval, verdict=verdict, is_recipe=is_recipe)


def lowest(responses: Sequence[Response]) -> Response | None:
    """Return the response with the lowest mean; None if all points diverged."""
    finite = [response for response in responses if response.mean is not None]
    return min(finite, key=lambda response: response.mean or 0.0, default=None)


def picture(responses: Sequence[Response], recipe: float | None, unit: str) -> str:
    """Return a response as lines of text: values, mean, and the mean in its interval on a common scale.

    Args:
        responses: in the order of the lines.
        recipe: mean loss of the recipe as it is, drawn as a line of colons; None to leave it out.
        unit: of the losses.
    """
    ends = [end for response in responses if response.mean is not None for end in (response.interval or ())]
    ends += [response.mean for response in responses if response.mean is not None]
    ends += [] if recipe is None else [recipe]
    fields = ", ".join(responses[0].point)
    width = max(len(fields), *(len(response.label) for response in responses))
    if not ends:
        return "\n".join([fields, *(f"{response.label:<{width}}  diverged" for response in responses)])
    low, high = min(ends), max(ends)
    head = "nats" if unit == "nats" else "bits/byte"
    lines = [f"{fields:<{width}}  {head:>9}  {low:<{WIDTH // 2}.4f}{high:>{WIDTH // 2}.4f}"]
    best = lowest(responses)
    for response in responses:
        mean = "diverged" if response.mean is None else f"{response.mean:.4f}"
        drawn = line_of(response, recipe, low, high)
        notes = ["the recipe" if response.is_recipe else response.verdict] + ["lowest"] * (response is best)
        lines.append(f"{response.label:<{width}}  {mean:>9}  {drawn}  {', '.join(filter(None, notes))}".rstrip())
    return "\n".join(lines)


def line_of(response: Response, recipe: float | None, low: float, high: float) -> str:
    """Return the mean of a response, its interval and the recipe's mean as characters on a scale."""

    def column(value: float) -> int:
        return round((value - low) / (high - low) * (WIDTH - 1)) if high > low else WIDTH // 2

    cells = [" "] * WIDTH
    if recipe is not None:
        cells[column(recipe)] = ":"
    if response.interval is not None:
        first, last = map(column, response.interval)
        cells[first : last + 1] = "-" * (last + 1 - first)
        cells[first] = cells[last] = "|"
    if response.mean is not None:
        cells[column(response.mean)] = "o"
    return "".join(cells)
