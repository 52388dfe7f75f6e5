"""Compare two runs: recipes, texts, tokenizers, and step by step the first tensor in which a bit differs."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nanotx.config.schema import to_table
from nanotx.errors import RunError
from nanotx.nn.canonical import to_canonical
from nanotx.runs import valid
from nanotx.runs.metrics_log import Row
from nanotx.runs.record import RunRecord
from nanotx.runs.replay import NUMBERS, Replay, counting, weights
from nanotx.runs.resume_check import leaves

WORDS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""By how many bytes a number has: a whole number of as many."""

Tensors = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The first tensor in which two sets of tensors differ."""

    tensor: str
    numbers: int  # of it that differ
    of: int  # how many it has
    largest: float  # how far apart two of them are
    tensors: int  # how many tensors differ in any number
    among: int  # how many there are

    def __str__(self) -> str:
        others = f"; {self.tensors} of {self.among} tensors differ" if self.tensors > 1 else "; no other tensor differs"
        return f"{self.tensor}: {self.numbers:,} of {self.of:,} numbers, by at most {self.largest:.3g}{others}"


def difference(one: Tensors, other: Tensors, order: Iterable[str]) -> Difference | None:
    """The first tensor that differs by a bit, in an order of their names; None where none does."""
    order = list(order)
    unequal = [name for name in order if not torch.equal(bits(one[name]), bits(other[name]))]
    if not unequal:
        return None
    first = unequal[0]
    mine, theirs = one[first].cpu().double(), other[first].cpu().double()
    return Difference(
        tensor=first,
        numbers=int((bits(one[first]) != bits(other[first])).sum()),
        of=mine.numel(),
        largest=(mine - theirs).abs().max().item(),
        tensors=len(unequal),
        among=len(order),
    )


def bits(tensor: Tensor) -> Tensor:
    """The bits of each number, as a whole one: so NaN equals itself, and 0 is not -0."""
    return tensor.detach().cpu().contiguous().view(WORDS[tensor.element_size()])


def misfit(one: Tensors, other: Tensors) -> str:
    """Why two sets of tensors cannot be compared: names or shapes that one alone has; empty where they can."""
    shapes = [{name: tuple(tensor.shape) for name, tensor in each.items()} for each in (one, other)]
    names = [name for name in {**shapes[0], **shapes[1]} if shapes[0].get(name) != shapes[1].get(name)]
    if not names:
        return ""
    mine, theirs = (str(each.get(names[0], "not there")) for each in shapes)
    more = f"; {len(names)} tensors differ so" if len(names) > 1 else ""
    return f"{names[0]} is {mine} in the one and {theirs} in the other{more}"


def recipes(one: RunRecord, other: RunRecord) -> dict[str, tuple[Any, Any]]:
    """The keys of the recipes whose values differ, and both; None where a recipe has no such key."""
    mine, theirs = (dict(leaves(to_table(record.recipe))) for record in (one, other))
    return {key: (mine.get(key), theirs.get(key)) for key in {**mine, **theirs} if mine.get(key) != theirs.get(key)}


def check_shapes(one: RunRecord, other: RunRecord) -> None:
    """Raise RunError unless the weights of both have the same names and shapes; takes no memory."""
    found = misfit(shapes(one), shapes(other))
    if found:
        raise RunError(
            f"{one.name} and {other.name}: their models are not of one shape, so no step of theirs can be compared: "
            f"{found}."
        )


def shapes(record: RunRecord) -> Tensors:
    """A run's weights in the canonical layout, without numbers."""
    model = record.recipe.model.build_meta(record.codec.vocab_size)
    return to_canonical(model, dict(model.named_parameters()))


def corpora(one: RunRecord, other: RunRecord) -> tuple[str, str]:
    """The digests of the texts that they learned from last."""
    lasts = [(record, record.segments[-1]) for record in (one, other)]
    mine, theirs = (segment.corpus_sha256 or record.texts(segment).sha256 for record, segment in lasts)
    return mine, theirs


def tokenizers(one: RunRecord, other: RunRecord) -> tuple[str, str]:
    """The digests of their tokenizers."""
    return one.codec.digest, other.codec.digest


FILES = ("model.safetensors", "optimizer.safetensors", "ema.safetensors", valid.BUFFERS)
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
    first_mismatch: tuple[
        int | None, int | None
    ]  # of each run, the first step here whose numbers its journal does not hold
    journal: int | None  # the first step whose numbers differ as they are recorded
    saved: dict[int, str]  # in what checkpoints of one step differ as they were saved

    @property
    def equal(self) -> bool:
        """Whether no bit was found that differs."""
        return self.parting is None and self.journal is None and not self.saved


def search(one: RunRecord, other: RunRecord, last: int) -> Found:
    """Look for the first difference, up to a step.

    Raises:
        RunError: a step cannot be taken again here.
        DataError: a corpus cannot be had.
    """
    begin, saved = common(one, other, last)
    end, parting = begin, None
    first_mismatch: tuple[int | None, int | None] = None, None
    if begin < last:  # or there is nothing to take again
        mine, theirs = Replay(one, begin), Replay(other, begin)
        with counting(last) as tell:
            parting = walk(mine, theirs, last, tell)
        end, first_mismatch = mine.step, (mine.first_mismatch, theirs.first_mismatch)
    journal = journals(one, other, last)
    return Found(
        begin=begin, end=end, last=last, parting=parting, first_mismatch=first_mismatch, journal=journal, saved=saved
    )


def walk(one: Replay, other: Replay, last: int, on_step: Callable[[int], None]) -> Parting | None:
    """Take steps of both, each in turn, until their weights differ; None where they do not up to the last.

    Args:
        one: a trainer at a step.
        other: one at the same step; its tensors have the same names and shapes.
        last: how far to go.
        on_step: called with each step.
    """
    order, rows = list(weights(one.trainer)), None
    while (found := difference(one.trainer.weights(), other.trainer.weights(), order)) is None:
        if one.step >= last:
            return None
        on_step(one.step + 1)
        rows = one.train_step(), other.train_step()
    return Parting(step=one.step, rows=rows, difference=found)


def common(one: RunRecord, other: RunRecord, last: int) -> tuple[int, dict[int, str]]:
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


def unlike(one: RunRecord, other: RunRecord, step: int) -> str:
    """In what two checkpoints of a step differ as they were saved; empty where no bit does."""
    for file in FILES:
        paths = [record.checkpoints[step] / file for record in (one, other)]
        there = [path for path in paths if path.exists()]
        if len(there) == 1:
            return f"only one has {file}: {there[0]}"
        if there:
            mine, theirs = map(valid.read_tensors, paths)
            found = misfit(mine, theirs) or str(difference(mine, theirs, mine) or "")
            if found:
                return f"{file}: {found}"
    return ""


def journals(one: RunRecord, other: RunRecord, last: int) -> int | None:
    """The first step up to a last one whose loss or gradient norm differ as they are recorded; None if none does."""
    for step in sorted(one.steps.keys() | other.steps.keys()):
        rows = [record.steps.get(step, {}) for record in (one, other)]
        if step <= last and any(rows[0].get(key) != rows[1].get(key) for key in NUMBERS):
            return step
    return None
