"""Check a law on random cases of a part, and shrink a case that breaks it."""

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
from nanotx.laws.all_laws import laws_on, part_of, part_title
from nanotx.laws.law import Case, Law, Where

EXAMPLES = 50
"""The default number of cases of each law."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The result of checking a law on one part."""

    part: str  # slot/part
    law: str
    cases: int = 0  # cases that were checked; those that the part refuses do not count
    seconds: float = 0.0
    broken: str = ""  # how the smallest case breaks the law; empty if none does
    case: Table | None = None  # that case
    skipped: str = ""  # why it was not checked

    @property
    def passed(self) -> bool:
        """Return whether it was checked and holds."""
        return not self.broken and not self.skipped

    def replay(self, load: Sequence[str] = ()) -> str:
        """Return lines of Python that check the breaking case again."""
        files = f", load={list(load)!r}" if load else ""
        return f"from nanotx.laws.runner import replay\nreplay({self.part!r}, {self.law!r}, {self.case!r}{files})"


def attempt(law: Law, part: type[Any], examples: int = EXAMPLES, where: Where | None = None, start: int = 0) -> Verdict:
    """Check a law on random cases of a part.

    Args:
        law: the law.
        part: the class of the config.
        examples: the number of cases; `law.most` limits it.
        where: device and dtype; None is the CPU, in float32.
        start: the seed of the cases.
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
    except (Exception, SystemExit) as error:  # a part may be a user's, and one that fails must not stop the others
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
    """Check several laws on a part; laws with the same random cases share them.

    The cases of a law are those of `attempt`. A law that is broken is checked again by itself, so that its case can be
    shrunk.

    Args:
        laws: any laws of the part's slot.
        part, examples, where, start: as for `attempt`.

    Returns:
        A verdict on each law, in order.
    """
    where, verdicts = where or Where(), dict[str, Verdict]()
    for _, alike in groupby(sorted(laws, key=cases_of), key=cases_of):
        group = list(alike)
        if len(group) > 1 and where.device in getattr(part, "trains_on", (where.device,)):
            verdicts |= try_together(group, part, examples, where, start)
    return [verdicts.get(law.name) or attempt(law, part, examples, where, start) for law in laws]


def cases_of(law: Law) -> tuple[int, int]:
    """Return a key that laws with the same random cases share."""
    return id(law.draw), law.most or 0


def try_together(laws: Sequence[Law], part: type[Any], examples: int, where: Where, start: int) -> dict[str, Verdict]:
    """Check laws on the same cases; return the verdicts, by name, on those that hold on all of them."""
    seconds, broken, tried = dict.fromkeys((law.name for law in laws), 0.0), set[str](), 0

    def check(case: Case) -> None:
        nonlocal tried
        tried += 1
        for law in laws:
            if law.name not in broken:
                began = time.perf_counter()
                try:
                    law.check(case)
                except (Exception, SystemExit):  # any error of a part; the law is checked again by itself
                    broken.add(law.name)
                seconds[law.name] += time.perf_counter() - began

    began = time.perf_counter()
    try:
        on_random_cases(laws[0], part, examples, where, start, check)
    except (Exception, SystemExit):  # no case fits, or none can be drawn
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
    """Check random cases of a law; if one raises, shrink it and raise the error of the smallest.

    Args:
        law: draws the cases.
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
        except Exception:  # of the part; the law meets it again, with the case at hand
            pass
        check(case)

    try_all()


def describe_error(error: BaseException) -> str:
    """Return an error of a part as a line; a law that breaks only sometimes raises one too."""
    line = str(error).strip().partition("\n")[0]
    return line if isinstance(error, LawBroken) else f"{type(error).__name__}: {line}"


def replay(name: str, law: str, case: Table, load: Sequence[str] = ()) -> None:
    """Check one case of a law again.

    Args:
        name: slot/part.
        law: the law's name.
        case: as a table.
        load: Python files with parts of your own.

    Raises:
        LawBroken: the case breaks the law.
        ConfigError: there is no such part, law or case.
    """
    for file in load:
        load_file(file)
    part = part_of(name)
    laws = {law.name: law for law in laws_on(name, on_request=True)}
    if law not in laws:
        raise ConfigError(f"{name}: no law {law!r}.{did_you_mean(law, laws)} Known: {', '.join(laws)}.")
    laws[law].check(laws[law].case.of(part, case))
