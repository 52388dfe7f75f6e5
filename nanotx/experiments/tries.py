"""Tries of a field for every arm of a comparison, the baseline included, so that no arm is tuned more than another.

Each arm is trained at the same multiples of its own value. Its choice is the multiple that is lowest over *all* arms,
unless its own tries say otherwise: its own lowest is better than that one by a paired t test. If each arm took its own
lowest, two equal arms would often end with different values by chance alone, and the verdict, which is right about the
values, would call one arm better than the other: in simulations, 8% of experiments of five seeds, and 30% of twenty.
"""

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nanotx.errors import ConfigError, NanotxError
from nanotx.experiments import student
from nanotx.experiments.plan import Arm, flags_of, values_of
from nanotx.experiments.statistics import ALPHA
from nanotx.recipe_flags import read_recipe

SEEDS = 3
"""Seeds of a try."""

BEYOND = 1000
"""Distance of the first seed of the tries from that of the verdict."""

MOST = 64
"""Tries of an arm."""

Multiples = tuple[float, ...]
"""A multiple of an arm's own value for each field."""


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A field, and at how many multiples of an arm's own value it is tried."""

    field: str
    count: int

    @property
    def multiples(self) -> list[float]:
        """Return the multiples 1, 2, 1/2, 4, 1/4, ...: more tries contain those of fewer."""
        return [2.0 ** ((number + 1) // 2 * (1 if number % 2 else -1)) for number in range(self.count)]

    def wider(self, high: bool) -> int:
        """Return the smallest number of tries whose range goes further at one end."""
        count = self.count + 1
        return count if (count % 2 == 0) == high else count + 1


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What an arm chose."""

    multiples: Multiples
    values: dict[str, str]  # of the fields, as flags take them
    own: bool  # by its own tries, not by those of all arms
    losses: dict[str, list[float | None]]  # of its tries by seed, in the unit of the verdict; by their values

    @property
    def diverged(self) -> int:
        """Return of how many tries a run diverged."""
        return sum(mean_of(losses) == math.inf for losses in self.losses.values())


def read_tries(texts: Sequence[str]) -> tuple[Tried, ...]:
    """Return the fields that some texts such as `optimizer.lr=4` name.

    Raises:
        ConfigError: a text is not FIELD=N, a field is named twice, or the tries are too many.
    """
    tries = list[Tried]()
    for text in texts:
        match = re.fullmatch(r"([A-Za-z_][\w.-]*)=(\d+)", text.replace(" ", ""))
        if not match or int(match[2]) < 2:
            raise ConfigError(f"--tries {text}: expected FIELD=N with N of at least 2, such as optimizer.lr=4.")
        field = match[1].replace("-", "_")
        if field in [tried.field for tried in tries]:
            raise ConfigError(f"--tries {field}: given twice.")
        tries.append(Tried(field=field, count=int(match[2])))
    if (count := math.prod(tried.count for tried in tries)) > MOST:
        raise ConfigError(f"--tries: all combinations are {count} tries of each arm; expected at most {MOST}.")
    return tuple(tries)


def multiple_of(arm: Arm, field: str, multiple: float) -> str:
    """Return a multiple of an arm's own value, as a flag takes it.

    Raises:
        ConfigError: the arm has no such field, several values of it, or one that has no multiples.
    """
    values = values_of(arm.recipe, field)
    where = f"--tries {field}: {arm.name}"
    if not values:
        raise ConfigError(f"{where}: has no such field; name one that every arm has, such as optimizer.lr.")
    value = values[0]
    if any(other != value for other in values):
        raise ConfigError(f"{where}: has several values of it, {', '.join(map(str, values))}; tries need one.")
    if isinstance(value, bool) or not isinstance(value, int | float) or not value:
        raise ConfigError(f"{where}: is {value!r} there; tries are multiples of a number other than 0.")
    return str(max(1, round(value * multiple))) if isinstance(value, int) else f"{value * multiple:.4g}"


def tries_of(arm: Arm, tries: Sequence[Tried], prog: str = "nanotx train NAME") -> dict[Multiples, Arm]:
    """Return the tries of an arm by their multiples, the arm as it is first.

    Raises:
        ConfigError: a try cannot be built, or is the same as another; names it.
    """
    made = dict[Multiples, Arm]()
    for multiples in itertools.product(*(tried.multiples for tried in tries)):
        changes = {tried.field: multiple_of(arm, tried.field, by) for tried, by in zip(tries, multiples, strict=True)}
        made[multiples] = arm if all(by == 1 for by in multiples) else with_values(arm, changes, prog)
    recipes = [other.recipe for other in made.values()]
    if twice := [other.name for other in made.values() if recipes.count(other.recipe) > 1]:
        raise ConfigError(f"--tries: {twice[0]} is tried twice, after rounding to whole numbers; try fewer.")
    return made


def with_values(arm: Arm, values: Mapping[str, str], prog: str) -> Arm:
    """Return an arm with values of some fields; raises as `tries_of`."""
    flags = [word for field, value in values.items() for word in flags_of(field, value)]
    try:
        recipe, _ = read_recipe(arm.recipe, flags, prog)
    except NanotxError as error:
        shown = ", ".join(f"{field}={value}" for field, value in values.items())
        text = str(error).removeprefix(f"{prog}: ")
        raise type(error)(f"--tries: {arm.name} cannot have {shown}: {text}") from None
    return replace(
        arm, name="; ".join([arm.name, *(f"{field}={value}" for field, value in values.items())]), recipe=recipe
    )


def choose(losses: Mapping[str, Mapping[Multiples, Sequence[float | None]]]) -> dict[str, tuple[Multiples, bool]]:
    """Return the multiples that each arm chooses, and whether it does so by its own tries.

    Args:
        losses: of each arm and each try by the same seeds; None for a run that diverged. All arms have the same tries,
            and the first one is that of their own values.
    """
    means = {arm: {try_: mean_of(some) for try_, some in tried.items()} for arm, tried in losses.items()}
    tries = list(next(iter(means.values())))
    alive = [of for of in means.values() if min(of.values()) < math.inf]
    together = {try_: sum(of[try_] for of in alive) for try_ in tries}
    common = min(tries, key=lambda try_: together[try_])
    chosen = dict[str, tuple[Multiples, bool]]()
    for arm, of in means.items():
        best = min(tries, key=lambda try_: of[try_])
        own = best != common and of[best] < math.inf and is_lower(losses[arm][best], losses[arm][common])
        chosen[arm] = (best, True) if own else (common, False)
    return chosen


def mean_of(losses: Sequence[float | None]) -> float:
    """Return the mean of the losses of a try; infinity if a run diverged."""
    finite = [loss for loss in losses if loss is not None and math.isfinite(loss)]
    return math.fsum(finite) / len(finite) if finite and len(finite) == len(losses) else math.inf


def is_lower(losses: Sequence[float | None], others: Sequence[float | None]) -> bool:
    """Return whether losses are lower than others of the same seeds by a paired t test; those that diverged are not."""
    if mean_of(others) == math.inf:
        return mean_of(losses) < math.inf
    pairs = np.array(losses, dtype=float) - np.array(others, dtype=float)
    if len(pairs) < 2:
        return False
    error = float(pairs.std(ddof=1)) / math.sqrt(len(pairs))
    return bool(pairs.mean() < -student.quantile(1 - ALPHA, len(pairs) - 1) * error)
