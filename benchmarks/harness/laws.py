"""Laws before times: the one place that decides what is timed, and what a row of figures holds.

A candidate has a verdict: "pass", or why it is not timed. Without "pass" there is no time (`time_lawful`), and so no
figure that follows from one (`figures`).
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from harness import Row
from harness.timing import Times, interleave, iqr, ratio
from nanotx.errors import LawBroken
from nanotx.laws.all_laws import LAWS
from nanotx.laws.law import Where
from nanotx.laws.runner import attempt_all

PASS = "pass"
NOT_ASKED = "init"  # where first weights come from, which other libraries answer otherwise and no time depends on


def time_lawful(
    runs: Mapping[str, Callable[[], object]], verdicts: Mapping[str, str], rounds: int, device: torch.device, **how: Any
) -> Times:
    """Time, interleaved, the candidates whose verdict is "pass"; the others get no times.

    Args:
        runs: the candidates, by name.
        verdicts: of each of them, "pass" or why it is not timed.
        rounds: as for `interleave`.
        device: as for `interleave`.
        how: `calls` and `limit` of `interleave`.
    """
    return interleave({name: run for name, run in runs.items() if verdicts[name] == PASS}, rounds, device, **how)


def figures(times: Times, name: str, baseline: str | None, work: Mapping[str, float | None]) -> Row:
    """Return the figures of a row that follow from its times; each is None where there are none.

    Args:
        times: of all candidates, as `time_lawful` gives them.
        name: the candidate of the row.
        baseline: the candidate that its times are divided by; None for none.
        work: by the name of a rate, such as `tokens_per_second`, the amount done per call; None where it is unknown.
    """
    taken = times.get(name, [])
    middle = statistics.median(taken) if taken else None
    return {
        "median_ms": middle and 1e3 * middle,
        "iqr_ms": 1e3 * iqr(taken) if taken else None,
        "rounds": len(taken),
        **{rate: amount / middle if amount and middle else None for rate, amount in work.items()},
        "reference": baseline,
        "ratio": ratio(times, name, baseline) if baseline else None,
    }


def verdict(check: Callable[[], object]) -> str:
    """Return "pass", or what the check raised, in one line."""
    try:
        check()
    except Exception as error:  # a part or a library may raise anything
        return failure(error)
    return PASS


def failure(error: Exception) -> str:
    """Return the verdict on what raised an error."""
    if isinstance(error, LawBroken):
        return f"failed: {error}"
    if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
        return "out of memory"
    return f"failed: {type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


@dataclass(frozen=True, kw_only=True)
class LawResults:
    """The laws of a part, each tried on random cases."""

    verdict: str  # "pass"; "failed: " and what was broken; or "not on " and the device where the part does not train
    tried: int = 0  # number of laws
    passed: int = 0
    cases: int = 0  # of all laws

    def row(self) -> Row:
        """Return the fields of a row."""
        return {"laws": self.verdict, "laws_tried": self.tried, "laws_passed": self.passed, "cases": self.cases}


def try_laws(slot: str, part: type[Any], where: Where, cases: int) -> LawResults:
    """Try every law of a slot, but that of initialisation, on one of its parts, on so many random cases each."""
    laws: Sequence[Any] = [law for law in LAWS[slot] if law.fits(part) and not law.on_request and law.name != NOT_ASKED]
    try:
        verdicts = attempt_all(laws, part, cases, where)
    except Exception as error:  # a part that cannot be built must not stop the others
        return LawResults(verdict=failure(error))
    tried = [law for law in verdicts if not law.skipped]
    broken = [law.broken for law in tried if law.broken]
    elsewhere = [law.skipped for law in verdicts if law.skipped.startswith("not on ")]
    return LawResults(
        verdict=f"failed: {broken[0]}" if broken else elsewhere[0] if elsewhere else PASS,
        tried=len(tried),
        passed=len(tried) - len(broken),
        cases=sum(law.cases for law in tried),
    )
