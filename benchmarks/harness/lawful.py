"""What is timed obeys its laws first, on the very device and in the very dtype, or it is not timed.

First all laws of the slot on random cases, small ones (`nanotx.laws.registry`); then one case at the very shape that is
timed.
"""

import dataclasses
import random
from collections.abc import Callable
from functools import cache, lru_cache

import torch
from torch import Tensor, nn

from harness.reporting import PASS
from harness.sizes import Shape
from harness.subjects import SUBJECTS, Subject
from nanotx import laws
from nanotx.errors import LawBroken
from nanotx.hardware.device import Machine
from nanotx.laws.cases.layer_case import COARSE, TOLERANCES
from nanotx.laws.equality import Outcome, outputs_and_gradients, require_same_outcome
from nanotx.laws.law import Where
from nanotx.laws.registry import LAWS
from nanotx.laws.runner import attempt
from nanotx.laws.values import position_wise
from nanotx.laws.weights import share_weights
from nanotx.nn.canonical import to_canonical
from nanotx.nn.kv_cache import KVCache
from nanotx.nn.shapes import Stream

ELSEWHERE = "not on "


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judgement:
    """What the laws say of a part on a machine."""

    laws: str  # "pass"; "failed: " and what was broken; or "not on " and the device where it does not train
    tried: int = 0  # how many laws
    passed: int = 0
    cases: int = 0  # of all of them

    @property
    def timed(self) -> bool:
        """Whether it may be timed: what was not shown to be right on a device is not timed there."""
        return self.laws == PASS


class Mixed(nn.Module):
    """A layer as training runs it: its weights and its stream in float32, its mathematics in the machine's dtype."""

    def __init__(self, layer: nn.Module, machine: Machine) -> None:
        super().__init__()
        self.layer, self.machine = layer, machine

    def forward(self, x: Stream, cache: KVCache | None = None) -> Stream:
        with self.machine.autocast():
            y: Tensor = self.layer(x) if cache is None else self.layer(x, cache=cache)
        return y


def build(slot: str, name: str, shape: Shape, machine: Machine) -> nn.Module:
    """The layer that is timed."""
    layer = SUBJECTS[slot].build(name, shape).to(machine.device)
    return Mixed(layer, machine) if machine.dtype is not torch.float32 else layer


def told(error: Exception) -> str:
    """What broke, in one line."""
    if isinstance(error, LawBroken):
        return f"failed: {error}"
    if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
        return "out of memory"
    return f"failed: {type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def by_the_book(slot: str, name: str, machine: Machine, cases: int) -> Judgement:
    """Every law of the slot on a part, each on so many random cases."""
    part = SUBJECTS[slot].slot.find(name)
    where = Where(device=machine.device.type, dtype=machine.dtype_name)
    verdicts = []
    try:
        for law in LAWS[slot]:
            if law.fits(part) and not law.on_request:
                verdicts.append(attempt(law, part, cases, where))
    except Exception as error:  # a part may be anyone's, and one that cannot be built must not stop the others
        return Judgement(laws=told(error))
    tried = [verdict for verdict in verdicts if not verdict.skipped]
    broken = [verdict.broken for verdict in tried if verdict.broken]
    count = {"tried": len(tried), "passed": len(tried) - len(broken), "cases": sum(one.cases for one in tried)}
    elsewhere = [verdict.skipped for verdict in verdicts if verdict.skipped.startswith(ELSEWHERE)]
    return Judgement(laws=f"failed: {broken[0]}" if broken else elsewhere[0] if elsewhere else PASS, **count)


def at_shape(slot: str, name: str, shape: Shape, machine: Machine) -> tuple[str, int]:
    """ "pass", or how the part failed at the very shape that is timed; and how many cases were tried.

    Args:
        slot: the part's slot.
        name: the part's.
        shape: what is to be timed.
        machine: where, and in which dtype.
    """
    subject, dice, cases = SUBJECTS[slot], random.Random(shape.tokens), 0
    cut, cuts = dice.randrange(shape.time - 1), sorted(dice.sample(range(1, shape.time), k=2))
    try:
        torch.manual_seed(0)
        layer, x = build(slot, name, shape, machine).eval(), shape.draw(machine)
        for law in laws_at_shape(subject):
            law(layer, x, cut, cuts, tolerance(machine))
            cases += 1
        if subject.twin(name):
            as_its_twin(slot, name, shape, dataclasses.replace(machine, dtype=torch.float32))
            cases += 1
    except Exception as error:  # a part may be anyone's
        return told(error), cases
    return PASS, cases


def laws_at_shape(subject: Subject) -> list[Callable[..., None]]:
    """Those asked of a layer and its input, a cut, several cuts, and by how much numbers may differ."""
    if not subject.reads:
        return [lambda layer, x, cut, cuts, by: position_wise(layer, x, by)]
    return [
        lambda layer, x, cut, cuts, by: laws.time_prefix(layer, x, cut, by),
        lambda layer, x, cut, cuts, by: laws.cache_agrees(layer, x, cuts, by),
        lambda layer, x, cut, cuts, by: laws.causal(layer, x, cut),
    ]


@cache
def as_its_twin(slot: str, name: str, shape: Shape, machine: Machine) -> None:
    """Raise LawBroken where a part is not the function that it says it is; in float32."""
    example = example_of(slot, SUBJECTS[slot].twin(name) or name, shape, machine)
    if example is not None:
        reference, x, want = example
        one = build(slot, name, shape, machine).eval()
        share_weights(reference, one)
        y, gradients = outputs_and_gradients(one, x)
        require_same_outcome("equivalent", (y, to_canonical(one, gradients)), want, 10 * tolerance(machine))


@lru_cache(maxsize=2)
def example_of(slot: str, name: str, shape: Shape, machine: Machine) -> tuple[nn.Module, Tensor, Outcome] | None:
    """A module, an input, and what comes of it; None where the memory does not suffice."""
    torch.manual_seed(1)
    layer, x = build(slot, name, shape, machine).eval(), shape.draw(machine)
    try:
        y, gradients = outputs_and_gradients(layer, x)
    except torch.OutOfMemoryError:
        return None
    return layer, x, (y, to_canonical(layer, gradients))


def tolerance(machine: Machine) -> float:
    """By how much outputs may differ, relative to the largest (or 1)."""
    return TOLERANCES[machine.device.type, "float32"] if machine.dtype is torch.float32 else COARSE
