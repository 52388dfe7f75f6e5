"""The points of a sweep: values of some fields of a recipe, as a grid or drawn at random."""

import itertools
import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from nanotx.errors import ConfigError
from nanotx.experiments.plan import outside_quotes

MOST = 200
"""Points of a sweep."""

FORMS = "FIELD=LOW:HIGH:N, FIELD=LOW:HIGH:log:N or FIELD=A,B,C"

Point = dict[str, str]
"""A value of each field, as a flag takes it."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A field and what it may be: a list of values, or a range of numbers."""

    field: str
    values: tuple[str, ...] = ()  # of a list; empty for a range
    low: float = 0.0  # of a range
    high: float = 0.0
    log: bool = False  # values of a range have equal ratios, not equal differences
    whole: bool = False  # both ends are whole numbers, and so is what is between
    count: int = 0  # values of a range in a grid; 0 if none is given

    @property
    def is_range(self) -> bool:
        """Return whether it is a range of numbers."""
        return not self.values

    def at(self, share: float) -> str:
        """Return the value of a range at a share of the way from its low to its high end."""
        ratio, width = self.high / self.low if self.log else 1.0, self.high - self.low
        value = self.low * ratio**share if self.log else self.low + width * share
        return str(round(value)) if self.whole else f"{value:.4g}"

    def grid(self) -> list[str]:
        """Return the values of a grid, without repetitions.

        Raises:
            ConfigError: it is a range without a number of values.
        """
        if not self.is_range:
            return list(self.values)
        if not self.count:
            raise ConfigError(
                f"--vary {self.field}: expected how many values, as in {self.field}={self.low:g}:{self.high:g}"
                f"{':log' * self.log}:5; or draw points by --random N."
            )
        return list(dict.fromkeys(self.at(index / (self.count - 1)) for index in range(self.count)))

    def draw(self, generator: random.Random) -> str:
        """Return a random value."""
        return self.at(generator.random()) if self.is_range else generator.choice(self.values)


def read_axis(text: str) -> Axis:
    """Return the axis that a text such as `optimizer.lr=1e-4:1e-2:log:7` or `model.dim=96,128` states.

    Raises:
        ConfigError: it states none; says what is wrong with it.
    """
    field, equals, rest = (word.strip() for word in text.partition("="))
    field = field.replace("-", "_")
    if not equals or not rest or not re.fullmatch(r"[A-Za-z_][\w.]*", field):
        raise ConfigError(f"--vary {text}: expected {FORMS}, such as optimizer.lr=1e-4:1e-2:log:7.")
    words = rest.split(":")
    if len(words) > 1 and number(words[0]) is not None:
        return read_range(text, field, words)
    values = [value.strip() for value in outside_quotes(rest, ",")]
    if not all(values):
        raise ConfigError(f"--vary {text}: a value between two commas is missing.")
    if len(set(values)) < len(values):
        raise ConfigError(f"--vary {text}: a value is given twice.")
    return Axis(field=field, values=tuple(values))


def read_range(text: str, field: str, words: Sequence[str]) -> Axis:
    """Return the axis of a range, `LOW:HIGH[:log][:N]`; raises as `read_axis`."""
    log = "log" in words[2:3]
    tail = words[3:] if log else words[2:]
    low, high = number(words[0]), number(words[1])
    if low is None or high is None or len(tail) > 1 or not all(word.isdecimal() for word in tail):
        raise ConfigError(f"--vary {text}: expected {FORMS}.")
    if not low < high:
        raise ConfigError(f"--vary {text}: expected the low end first, got {words[0]} and {words[1]}.")
    if log and low <= 0:
        raise ConfigError(f"--vary {text}: a range by ratios begins above 0, got {words[0]}.")
    count = int(tail[0]) if tail else 0
    if tail and not 2 <= count <= MOST:
        raise ConfigError(f"--vary {text}: expected 2 to {MOST} values, got {tail[0]}.")
    whole = all(re.fullmatch(r"[+-]?\d+", word.strip()) for word in words[:2])
    return Axis(field=field, low=low, high=high, log=log, whole=whole, count=count)


def number(word: str) -> float | None:
    """Return the finite number that a word spells; None for any other word."""
    try:
        value = float(word)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def read_axes(texts: Sequence[str]) -> list[Axis]:
    """Return the axes of a sweep.

    Raises:
        ConfigError: there is none, one cannot be read, or two are of one field.
    """
    if not texts:
        raise ConfigError(f"expected at least one --vary, such as --vary optimizer.lr=1e-4:1e-2:log:7 ({FORMS}).")
    axes = [read_axis(text) for text in texts]
    fields = [axis.field for axis in axes]
    for field in fields:
        if fields.count(field) > 1:
            raise ConfigError(f"--vary {field}: given twice; put all its values into one.")
    return axes


def grid(axes: Sequence[Axis]) -> list[Point]:
    """Return all combinations of the values of some axes; the last axis changes fastest.

    Raises:
        ConfigError: they are too many, or a range has no number of values.
    """
    values = [axis.grid() for axis in axes]
    count = math.prod(map(len, values))
    if count > MOST:
        raise ConfigError(
            f"--vary: {' x '.join(str(len(some)) for some in values)} are {count:,} points, and a sweep has at most "
            f"{MOST}; take fewer values, or draw some of the points by --random N."
        )
    return [dict(zip((axis.field for axis in axes), some, strict=True)) for some in itertools.product(*values)]


def widened(axis: Axis, values: Sequence[str], high: bool, drawn: bool = False) -> str:
    """Return an axis as `--vary` takes it, with more at one end; "" where whole numbers would go below 1.

    Args:
        axis: a range or a list of numbers.
        values: those that were trained, two at least, ascending; a list keeps them, so that they are not trained again.
        high: which end.
        drawn: values are drawn from the range, which becomes wider by half of itself.
    """
    if axis.is_range and drawn:
        step = (axis.high / axis.low) ** 0.5 if axis.log else (axis.high - axis.low) / 2
        ends = [axis.low, axis.high]
        ends[high] = beyond(ends[high], step, axis.log, high)
        shown = [str(round(end)) if axis.whole else f"{end:.4g}" for end in ends]
        return f"{axis.field}={shown[0]}:{shown[1]}{':log' * axis.log}"
    numbers = [float(value) for value in (values if high else values[::-1])]
    whole = all(re.fullmatch(r"[+-]?\d+", value) for value in values)
    by_ratio = not whole and numbers[-1] * numbers[-2] > 0
    step = numbers[-1] / numbers[-2] if by_ratio else abs(numbers[-1] - numbers[-2])
    further = beyond(numbers[-1], step if high or not by_ratio else 1 / step, by_ratio, high)
    if whole and further < 1 <= min(numbers):
        return ""
    new = str(round(further)) if whole else f"{further:.4g}"
    return f"{axis.field}={','.join([*values, new] if high else [new, *values])}"


def beyond(end: float, step: float, by_ratio: bool, high: bool) -> float:
    """Return the number a step beyond an end."""
    if by_ratio:
        return end * step if high else end / step
    return end + step if high else end - step


def draws(axes: Sequence[Axis], count: int, seed: int) -> list[Point]:
    """Return random points, all different; fewer if the axes have no more.

    Args:
        axes: each is drawn alike over its list, or over its range: by ratios if it is logarithmic.
        count: the number of points.
        seed: of the draws.
    """
    generator, points = random.Random(seed), list[Point]()
    for _ in range(100 * count):
        point = {axis.field: axis.draw(generator) for axis in axes}
        if point not in points:
            points.append(point)
        if len(points) == count:
            break
    return points


def change_of(point: Point) -> str:
    """Return the change of a recipe that a point makes, as `nanotx compare --change` takes it."""
    return "; ".join(f"{field}={value}" for field, value in point.items())
