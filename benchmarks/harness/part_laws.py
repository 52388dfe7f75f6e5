"""The laws of a layer at the very shape that is timed, on the very device and in the very dtype."""

import dataclasses
import random
from functools import cache, lru_cache

import torch
from torch import Tensor, nn

from harness.laws import LawResults, try_laws, verdict
from harness.shapes import Shape
from harness.slots import SLOTS
from nanotx import laws
from nanotx.hardware.device import Machine
from nanotx.laws.cases.layer_case import COARSE, TOLERANCES
from nanotx.laws.equality import Outcome, outputs_and_gradients, require_same_outcome
from nanotx.laws.law import Where
from nanotx.laws.values import position_wise
from nanotx.laws.weights import share_weights
from nanotx.nn.canonical import to_canonical
from nanotx.nn.kv_cache import KVCache
from nanotx.nn.shapes import Stream


class Autocast(nn.Module):
    """A layer as training runs it: its weights and its stream in float32, its mathematics in the machine's dtype."""

    def __init__(self, layer: nn.Module, machine: Machine) -> None:
        super().__init__()
        self.layer, self.machine = layer, machine

    def forward(self, x: Stream, cache: KVCache | None = None) -> Stream:
        with self.machine.autocast():
            y: Tensor = self.layer(x) if cache is None else self.layer(x, cache=cache)
        return y


def build(slot: str, name: str, shape: Shape, machine: Machine) -> nn.Module:
    """Build the layer that is timed."""
    layer = SLOTS[slot].build(name, shape).to(machine.device)
    return Autocast(layer, machine) if machine.dtype is not torch.float32 else layer


def on_random_cases(slot: str, name: str, machine: Machine, cases: int) -> LawResults:
    """Try every law of the slot on so many small random cases."""
    return try_laws(
        slot, SLOTS[slot].slot.find(name), Where(device=machine.device.type, dtype=machine.dtype_name), cases
    )


def at_shape(slot: str, name: str, shape: Shape, machine: Machine) -> tuple[str, int]:
    """Try one more case of some laws at the shape that is timed; return the verdict and the number of cases."""
    compared, random_cuts, cases = SLOTS[slot], random.Random(shape.tokens), 0
    cut, cuts = random_cuts.randrange(shape.time - 1), sorted(random_cuts.sample(range(1, shape.time), k=2))

    def check() -> None:
        nonlocal cases
        torch.manual_seed(0)
        layer, x, within = build(slot, name, shape, machine).eval(), shape.draw(machine), tolerance(machine)
        if compared.mixes_positions:
            laws.time_prefix(layer, x, cut, within)
            laws.cache_agrees(layer, x, cuts, within)
            laws.causal(layer, x, cut)
        else:
            position_wise(layer, x, within)
        cases += 3 if compared.mixes_positions else 1
        if compared.equivalent(name):
            equivalent(slot, name, shape, dataclasses.replace(machine, dtype=torch.float32))
            cases += 1

    return verdict(check), cases


@cache
def equivalent(slot: str, name: str, shape: Shape, machine: Machine) -> None:
    """Raise LawBroken where a part is not the function that it claims to be."""
    example = example_of(slot, SLOTS[slot].equivalent(name) or name, shape, machine)
    if example is not None:
        reference, x, want = example
        layer = build(slot, name, shape, machine).eval()
        share_weights(reference, layer)
        y, gradients = outputs_and_gradients(layer, x)
        require_same_outcome("equivalent", (y, to_canonical(layer, gradients)), want, 10 * tolerance(machine))


@lru_cache(maxsize=2)
def example_of(slot: str, name: str, shape: Shape, machine: Machine) -> tuple[nn.Module, Tensor, Outcome] | None:
    """Return a module, an input, and its outputs and gradients; None where the memory does not suffice."""
    torch.manual_seed(1)
    layer, x = build(slot, name, shape, machine).eval(), shape.draw(machine)
    try:
        y, gradients = outputs_and_gradients(layer, x)
    except torch.OutOfMemoryError:
        return None
    return layer, x, (y, to_canonical(layer, gradients))


def tolerance(machine: Machine) -> float:
    """Return by how much outputs may differ, relative to the largest (or 1)."""
    return TOLERANCES[machine.device.type, "float32"] if machine.dtype is torch.float32 else COARSE
