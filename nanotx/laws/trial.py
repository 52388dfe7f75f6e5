"""A law on trial: tried on random cases of a part until one breaks it, which is then made as small as can be."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, Phase, Verbosity, given, reject, seed, settings
from hypothesis.errors import Unsatisfiable

from nanotx.config import Table
from nanotx.errors import ConfigError, LawBroken, did_you_mean
from nanotx.laws.book import laws_on, part_of, title
from nanotx.laws.law import Case, Law, Where
from nanotx.registry import load_file

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
        return f"from nanotx.laws import replay\nreplay({self.part!r}, {self.law!r}, {self.case!r}{brings})"


def attempt(law: Law, part: type[Any], examples: int = EXAMPLES, where: Where | None = None, start: int = 0) -> Verdict:
    """Try a law on random cases of a part.

    Args:
        law: the law.
        part: the class of the idea.
        examples: how many cases; fewer where the law needs no more.
        where: the device, and the format of the mathematics; None is the CPU, in float32.
        start: another number, other cases.
    """
    where, tried, last = where or Where(), 0, None
    if law.on_device and where.device not in getattr(part, "trains_on", (where.device,)):
        return Verdict(part=title(part), law=law.name, skipped=f"not on {where.device}")

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
        nonlocal tried, last
        try:
            case.fits()
        except ConfigError:
            reject()
        last, tried = case, tried + 1
        law.check(case)

    began, broken, skipped = time.perf_counter(), "", ""
    try:
        try_all()
    except LawBroken as error:
        broken = str(error)
    except Unsatisfiable:
        skipped = "no case fits"
    except Exception as error:  # a part may be anyone's, and one that cannot run must not stop the others
        if last is None:
            raise
        broken = in_words(error.exceptions[0] if isinstance(error, ExceptionGroup) else error)
    case = last.table() if broken and last is not None else None
    seconds = time.perf_counter() - began
    told = {"broken": broken, "skipped": skipped}
    return Verdict(part=title(part), law=law.name, cases=tried, seconds=seconds, case=case, **told)


def in_words(error: Exception) -> str:
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
