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
from nanotx.runs.loaded_files import naming_edits
from nanotx.runs.metrics_log import Row
from nanotx.runs.record import RunRecord
from nanotx.runs.replay import NUMBERS, Replay, counting, weights
from nanotx.runs.resume_check import changes, leaves

WORDS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Integer dtypes by their size in bytes."""

Tensors = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The first tensor in which two sets of tensors differ."""

    tensor: str
    numbers: int  # of elements that differ
    of: int  # number of elements
    largest: float  # largest absolute difference
    tensors: int  # number of tensors that differ
    among: int  # number of tensors

    def __str__(self) -> str:
        others = f"; {self.tensors} of {self.among} tensors differ" if self.tensors > 1 else "; no other tensor differs"
        return f"{self.tensor}: {self.numbers:,} of {self.of:,} numbers, by at most {self.largest:.3g}{others}"


def difference(first: Tensors, other: Tensors, order: Iterable[str]) -> Difference | None:
    """Return the first tensor, in the given order, in which a bit differs; None if all are equal."""
    order = list(order)
    unequal = [name for name in order if not torch.equal(bits(first[name]), bits(other[name]))]
    if not unequal:
        return None
    name = unequal[0]
    mine, theirs = first[name].cpu().double(), other[name].cpu().double()
    return Difference(
        tensor=name,
        numbers=int((bits(first[name]) != bits(other[name])).sum()),
        of=mine.numel(),
        largest=(mine - theirs).abs().max().item(),
        tensors=len(unequal),
        among=len(order),
    )


def bits(tensor: Tensor) -> Tensor:
    """Return the bits of each element as an integer, so that NaN equals itself and 0 differs from -0."""
    return tensor.detach().cpu().contiguous().view(WORDS[tensor.element_size()])


def misfit(first: Tensors, other: Tensors) -> str:
    """Return why two sets of tensors cannot be compared, a name or shape that differs; "" if they can."""
    shapes = [{name: tuple(tensor.shape) for name, tensor in each.items()} for each in (first, other)]
    names = [name for name in {**shapes[0], **shapes[1]} if shapes[0].get(name) != shapes[1].get(name)]
    if not names:
        return ""
    mine, theirs = (str(each.get(names[0], "missing")) for each in shapes)
    more = f"; {len(names)} tensors differ in this way" if len(names) > 1 else ""
    return f"{names[0]} is {mine} in the first and {theirs} in the second{more}"


def recipes(first: RunRecord, other: RunRecord) -> dict[str, tuple[Any, Any]]:
    """Return both values of each key in which the recipes differ; None if a recipe lacks the key."""
    differing = {key: (mine, theirs) for key, mine, theirs in changes(first.recipe, other.recipe)}
    order = {**dict(leaves(to_table(first.recipe))), **dict(leaves(to_table(other.recipe)))}
    return {key: differing[key] for key in order if key in differing}


def check_shapes(first: RunRecord, other: RunRecord) -> None:
    """Raise RunError unless the weights of both have the same names and shapes; no weights are read."""
    mismatch = misfit(shapes(first), shapes(other))
    if mismatch:
        raise RunError(
            f"{first.name} and {other.name}: their models have different shapes, so no step can be compared: "
            f"{mismatch}."
        )


def shapes(record: RunRecord) -> Tensors:
    """Return a run's weights in the canonical layout, on the meta device."""
    model = record.recipe.model.build_meta(record.codec.vocab_size)
    return to_canonical(model, dict(model.named_parameters()))


def corpora(first: RunRecord, other: RunRecord) -> tuple[str, str]:
    """Return the digests of the corpora that they were trained on last."""
    lasts = [(record, record.segments[-1]) for record in (first, other)]
    mine, theirs = (segment.corpus_sha256 or record.texts(segment).sha256 for record, segment in lasts)
    return mine, theirs


def tokenizers(first: RunRecord, other: RunRecord) -> tuple[str, str]:
    """Return the digests of their tokenizers."""
    return first.codec.digest, other.codec.digest


def loaded_files(first: RunRecord, other: RunRecord) -> tuple[dict[str, str], dict[str, str]]:
    """Return the digests of the files that --load imported, by the names of their copies."""
    mine, theirs = ({file.copy: file.sha256 for file in record.segments[-1].loaded} for record in (first, other))
    return mine, theirs


FILES = ("model.safetensors", "optimizer.safetensors", "ema.safetensors", valid.BUFFERS)
"""Files of a checkpoint that a step changes."""


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """The step at which two runs diverge."""

    step: int  # the first one after which a weight differs; 0 for the initial weights
    rows: tuple[Row, Row] | None  # of that step as repeated here; None for step 0
    difference: Difference


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The result of a search for the first difference of two runs."""

    begin: int  # the step of the checkpoints from which it started, or 0
    end: int  # the last step that was repeated
    last: int  # the last step to compare
    divergence: Divergence | None
    first_mismatch: tuple[int | None, int | None]  # of each run: the first repeated step that differs from its log
    recorded: int | None  # the first step whose logged numbers differ
    saved: dict[int, str]  # how the checkpoints of a step differ, by step
    edited: list[str]  # which files are not those that the runs were trained with

    @property
    def equal(self) -> bool:
        """Whether no difference was found."""
        return self.divergence is None and self.recorded is None and not self.saved


def search(first: RunRecord, other: RunRecord, last: int) -> Comparison:
    """Find the first difference up to a step.

    Raises:
        RunError: a step cannot be repeated here.
        DataError: a corpus cannot be read.
    """
    begin, saved = common(first, other, last)
    edited = [*first.edits_between(begin, last), *other.edits_between(begin, last)]
    end, divergence = begin, None
    first_mismatch: tuple[int | None, int | None] = None, None
    if begin < last:  # otherwise there is nothing to repeat
        with naming_edits(edited):
            mine, theirs = Replay(first, begin), Replay(other, begin)
        with counting(last) as show_step:
            divergence = walk(mine, theirs, last, show_step)
        end, first_mismatch = mine.step, (mine.first_mismatch, theirs.first_mismatch)
    return Comparison(
        begin=begin,
        end=end,
        last=last,
        divergence=divergence,
        first_mismatch=first_mismatch,
        recorded=first_recorded(first, other, last),
        saved=saved,
        edited=edited,
    )


def walk(first: Replay, other: Replay, last: int, on_step: Callable[[int], None]) -> Divergence | None:
    """Repeat the steps of both until their weights differ; None if they do not up to the last step.

    Args:
        first: a replay at a step.
        other: a replay at the same step; its tensors have the same names and shapes.
        last: the last step to repeat.
        on_step: called with each step.
    """
    order, rows = list(weights(first.trainer)), None
    while (apart := difference(first.trainer.weights(), other.trainer.weights(), order)) is None:
        if first.step >= last:
            return None
        on_step(first.step + 1)
        rows = first.train_step(), other.train_step()
    return Divergence(step=first.step, rows=rows, difference=apart)


def common(first: RunRecord, other: RunRecord, last: int) -> tuple[int, dict[int, str]]:
    """Return the newest step up to `last` at which both have equal checkpoints, or 0.

    Also return how their newer checkpoints differ, by step.
    """
    unequal: dict[int, str] = {}
    for step in first.checkpoints:
        if step <= last and step in other.checkpoints:
            mismatch = unlike(first, other, step)
            if not mismatch:
                return step, unequal
            unequal[step] = mismatch
    return 0, unequal


def unlike(first: RunRecord, other: RunRecord, step: int) -> str:
    """Return how two checkpoints of a step differ; "" if they are equal to the bit."""
    for file in FILES:
        paths = [record.checkpoints[step] / file for record in (first, other)]
        there = [path for path in paths if path.exists()]
        if len(there) == 1:
            return f"only one has {file}: {there[0]}"
        if there:
            mine, theirs = map(valid.read_tensors, paths)
            mismatch = misfit(mine, theirs) or str(difference(mine, theirs, mine) or "")
            if mismatch:
                return f"{file}: {mismatch}"
    return ""


def first_recorded(first: RunRecord, other: RunRecord, last: int) -> int | None:
    """Return the first step up to `last` whose logged loss or gradient norm differ; None if there is none."""
    for step in sorted(first.steps.keys() | other.steps.keys()):
        rows = [record.steps.get(step, {}) for record in (first, other)]
        if step <= last and any(rows[0].get(key) != rows[1].get(key) for key in NUMBERS):
            return step
    return None
