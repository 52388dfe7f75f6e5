"""A law on trial: tried on random cases of a part until one breaks it, which is then made as small as can be."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from hypothesis import HealthCheck, Phase, Verbosity, given, reject, seed, settings
from hypothesis.errors import Unsatisfiable

from nanotx.config.registry import load_file
from nanotx.config.schema import Table
from nanotx.errors import ConfigError, LawBroken, did_you_mean
from nanotx.laws.law import Case, Law, Where
from nanotx.laws.registry import laws_on, part_of, part_title

EXAMPLES = 50
"""Cases of each law, unless told otherwise."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of a law on one part."""

    part: str  # slot/part
    law: str
    cases: int = 0  # how many were tried; those that a part refuses not among them
    seconds: float = 0.0
    broken: str = ""  # how the smallest case breaks the law; empty where none does
    case: Table | None = None  # that case
    skipped: str = ""  # why it was not tried at all

    @property
    def passed(self) -> bool:
        """Whether it was tried, and held."""
        return not self.broken and not self.skipped

    def replay(self, load: Sequence[str] = ()) -> str:
        """Lines of Python that show the breaking case again."""
        brings = f", load={list(load)!r}" if load else ""
        return f"from nanotx.laws.runner import replay\nreplay({self.part!r}, {self.law!r}, {self.case!r}{brings})"


def attempt(law: Law, part: type[Any], examples: int = EXAMPLES, where: Where | None = None, start: int = 0) -> Verdict:
    """Try a law on random cases of a part.

    Args:
        law: the law.
        part: the class of the config.
        examples: how many cases; fewer where the law needs no more.
        where: the device, and the format of the mathematics; None is the CPU, in float32.
        start: another number, other cases.
    """
    where, tried, last = where or Where(), 0, None
    if law.on_device and where.device not in getattr(part, "trains_on", (where.device,)):
        return Verdict(part=part_title(part), law=law.name, skipped=f"not on {where.device}")

    def check(case: Case) -> None:
        nonlocal tried, last
        last, tried = case, tried + 1
        law.check(case)

    began, broken, skipped = time.perf_counter(), "", ""
    try:
        on_random_cases(law, part, examples, where, start, check)
    except LawBroken as error:
        broken = str(error)
    except Unsatisfiable:
        skipped = "no case fits"
    except (Exception, SystemExit) as error:  # a part may be anyone's, and one that fails must not stop the others
        if last is None:
            raise
        broken = describe_error(error.exceptions[0] if isinstance(error, ExceptionGroup) else error)
    case = last.table() if broken and last is not None else None
    seconds = time.perf_counter() - began
    counts = {"broken": broken, "skipped": skipped}
    return Verdict(part=part_title(part), law=law.name, cases=tried, seconds=seconds, case=case, **counts)


def attempt_all(
    laws: Sequence[Law], part: type[Any], examples: int = EXAMPLES, where: Where | None = None, start: int = 0
) -> list[Verdict]:
    """Try several laws on a part; those that are shown on the same random cases share each of them.

    The cases of a law are the ones that `attempt` tries it on. Where one is broken, it is tried by itself, so that the
    case that breaks it is made as small as can be.

    Args:
        laws: any laws of the part's slot.
        part, examples, where, start: as for `attempt`.

    Returns:
        A verdict for each, in the order of the laws.
    """
    where, verdicts = where or Where(), dict[str, Verdict]()
    for _, alike in groupby(sorted(laws, key=cases_of), key=cases_of):
        together = list(alike)
        if len(together) > 1 and where.device in getattr(part, "trains_on", (where.device,)):
            verdicts |= try_together(together, part, examples, where, start)
    return [verdicts.get(law.name) or attempt(law, part, examples, where, start) for law in laws]


def cases_of(law: Law) -> tuple[int, int]:
    """What is equal for laws that are shown on the same random cases."""
    return id(law.draw), law.most or 0


def try_together(laws: Sequence[Law], part: type[Any], examples: int, where: Where, start: int) -> dict[str, Verdict]:
    """The verdicts on those of some laws, by name, that hold on every case of one row of random cases."""
    seconds, broken, tried = dict.fromkeys((law.name for law in laws), 0.0), set[str](), 0

    def check(case: Case) -> None:
        nonlocal tried
        tried += 1
        for law in laws:
            if law.name not in broken:
                began = time.perf_counter()
                try:
                    law.check(case)
                except (Exception, SystemExit):  # whatever a part may raise; it is tried again by itself, and told then
                    broken.add(law.name)
                seconds[law.name] += time.perf_counter() - began

    began = time.perf_counter()
    try:
        on_random_cases(laws[0], part, examples, where, start, check)
    except (Exception, SystemExit):  # no case fits, or none can be drawn: likewise
        return {}
    drawing = (time.perf_counter() - began - sum(seconds.values())) / len(laws)
    return {
        law.name: Verdict(part=part_title(part), law=law.name, cases=tried, seconds=seconds[law.name] + drawing)
        for law in laws
        if law.name not in broken
    }


def on_random_cases(
    law: Law, part: type[Any], examples: int, where: Where, start: int, check: Callable[[Case], None]
) -> None:
    """Check random cases of a law; where one raises, smaller ones that raise are looked for, and the smallest raises.

    Args:
        law: whose cases they are.
        part, examples, where, start: as for `attempt`.
        check: called with each case that fits the part.
    """

    @seed(start)
    @settings(
        max_examples=min(examples, law.most or examples),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
        report_multiple_bugs=False,
        verbosity=Verbosity.quiet,
    )
    @given(case=law.draw(part, where))
    def try_all(case: Case) -> None:
        try:
            case.fits()
        except ConfigError:
            reject()
        check(case)

    try_all()


def describe_error(error: BaseException) -> str:
    """What a part raised, in a line; a law that is broken only now and then comes this way too."""
    said = str(error).strip().partition("\n")[0]
    return said if isinstance(error, LawBroken) else f"{type(error).__name__}: {said}"


def replay(name: str, law: str, case: Table, load: Sequence[str] = ()) -> None:
    """Show one case of a law again.

    Args:
        name: slot/part.
        law: the law's name.
        case: as a table.
        load: Python files of your own, with parts in them.

    Raises:
        LawBroken: the case breaks the law.
        ConfigError: there is no such part, law or case.
    """
    for file in load:
        load_file(file)
    part = part_of(name)
    laws = {one.name: one for one in laws_on(name, on_request=True)}
    if law not in laws:
        raise ConfigError(f"{name}: no law {law!r}.{did_you_mean(law, laws)} Known: {', '.join(laws)}.")
    laws[law].check(laws[law].case.of(part, case))
