"""Two runs taken again side by side, until a bit differs."""

from collections.abc import Callable
from dataclasses import dataclass

from nanotx import verified
from nanotx.journal import Row
from nanotx.recorded import Record
from nanotx.retaken import NUMBERS, Retaken, counting, weights
from nanotx.verbs.diff._bits import Difference, difference, misfit

FILES = ("model.safetensors", "optimizer.safetensors", "average.safetensors")
"""Of a checkpoint: what steps change."""


@dataclass(frozen=True, kw_only=True)
class Parting:
    """Where two runs part."""

    step: int  # the first after which a weight differs; 0 for the initial ones
    rows: tuple[Row, Row] | None  # of that step, as it was taken here; none of step 0
    difference: Difference


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a search came to."""

    begin: int  # the step of the checkpoints from which it went, or 0
    end: int  # the last step that was taken
    last: int  # the last that it was to take
    parting: Parting | None
    strayed: tuple[int | None, int | None]  # of each run, the first step here whose numbers its journal does not hold
    journal: int | None  # the first step whose numbers differ as they are recorded
    saved: dict[int, str]  # in what checkpoints of one step differ as they were saved

    @property
    def equal(self) -> bool:
        """Whether no bit was found that differs."""
        return self.parting is None and self.journal is None and not self.saved


def search(one: Record, other: Record, last: int) -> Found:
    """Look for the first difference, up to a step.

    Raises:
        RunError: a step cannot be taken again here.
        DataError: a corpus cannot be had.
    """
    begin, saved = common(one, other, last)
    end, parting = begin, None
    strayed: tuple[int | None, int | None] = None, None
    if begin < last:  # or there is nothing to take again
        mine, theirs = Retaken(one, begin), Retaken(other, begin)
        with counting(last) as tell:
            parting = walk(mine, theirs, last, tell)
        end, strayed = mine.step, (mine.strayed, theirs.strayed)
    journal = journals(one, other, last)
    return Found(begin=begin, end=end, last=last, parting=parting, strayed=strayed, journal=journal, saved=saved)


def walk(one: Retaken, other: Retaken, last: int, breath: Callable[[int], None]) -> Parting | None:
    """Take steps of both, each in turn, until their weights differ; None where they do not up to the last.

    Args:
        one: stands at a step.
        other: stands at the same one; its tensors have the same names and shapes.
        last: how far to go.
        breath: told of each step.
    """
    order, rows = list(weights(one.trainer)), None
    while (found := difference(one.trainer.weights(), other.trainer.weights(), order)) is None:
        if one.step >= last:
            return None
        breath(one.step + 1)
        rows = one.advance(), other.advance()
    return Parting(step=one.step, rows=rows, difference=found)


def common(one: Record, other: Record, last: int) -> tuple[int, dict[int, str]]:
    """The newest step up to a last one of which both have a checkpoint with all tensors equal; 0 if there is none.

    And by step, in what those of their checkpoints differ that are newer.
    """
    unequal: dict[int, str] = {}
    for step in one.checkpoints:
        if step <= last and step in other.checkpoints:
            found = unlike(one, other, step)
            if not found:
                return step, unequal
            unequal[step] = found
    return 0, unequal


def unlike(one: Record, other: Record, step: int) -> str:
    """In what two checkpoints of a step differ as they were saved; empty where no bit does."""
    for file in FILES:
        paths = [record.checkpoints[step] / file for record in (one, other)]
        there = [path for path in paths if path.exists()]
        if len(there) == 1:
            return f"only one has {file}: {there[0]}"
        if there:
            mine, theirs = map(verified.read_tensors, paths)
            found = misfit(mine, theirs) or str(difference(mine, theirs, mine) or "")
            if found:
                return f"{file}: {found}"
    return ""


def journals(one: Record, other: Record, last: int) -> int | None:
    """The first step up to a last one whose loss or gradient norm differ as they are recorded; None if none does."""
    for step in sorted(one.steps.keys() | other.steps.keys()):
        rows = [record.steps.get(step, {}) for record in (one, other)]
        if step <= last and any(rows[0].get(key) != rows[1].get(key) for key in NUMBERS):
            return step
    return None
