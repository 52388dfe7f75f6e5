"""What is timed obeys its laws first, on the very device and in the very dtype, or it is not timed.

Each case draws a shape, weights, an input and where to cut it; the last case is the shape to be timed.
"""

import dataclasses
import random

import torch
from torch import Tensor, nn

from nanotx import laws
from nanotx.attention import SOFTMAX, Attention
from nanotx.device import Machine
from nanotx.errors import LawBroken
from nanotx.layout import to_own, to_shared
from nanotx.past import Past
from nanotx.position import NOWHERE, Positioning
from nanotx.shapes import Stream

TOLERANCES = {
    ("cpu", torch.float32): 1e-5,
    ("cuda", torch.float32): 1e-4,
    ("mps", torch.float32): 1e-4,
    ("cpu", torch.bfloat16): 2e-2,
    ("cuda", torch.bfloat16): 2e-2,
    ("mps", torch.bfloat16): 2e-2,
}
"""By how much outputs may differ, relative to the largest (or 1). Of gradients, ten times as much."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shape:
    """The sizes of one input, and the heads that read it."""

    batch: int
    time: int
    dim: int
    heads: int

    def draw(self, machine: Machine) -> Tensor:
        """An input of ordinary scale."""
        return torch.randn(self.batch, self.time, self.dim, device=machine.device)


class Mixed(nn.Module):
    """A layer as training runs it: its weights and its stream in float32, its mathematics in the machine's dtype."""

    def __init__(self, layer: nn.Module, machine: Machine) -> None:
        super().__init__()
        self.layer, self.machine = layer, machine

    def forward(self, x: Stream, position: Positioning = NOWHERE, past: Past | None = None) -> Stream:
        with self.machine.autocast():
            y: Stream = self.layer(x, position, past)
        return y


def build(name: str, shape: Shape, machine: Machine) -> nn.Module:
    """An attention of this name, nothing in it random; a part without `heads` or `dropout` has neither."""
    part = Attention.find(name)
    wishes = {"heads": shape.heads, "dropout": 0.0}
    known = {field.name for field in dataclasses.fields(part)}
    idea: Attention = part(**{key: value for key, value in wishes.items() if key in known})
    layer = idea.build(shape.dim).to(machine.device)
    return Mixed(layer, machine) if machine.dtype is not torch.float32 else layer


def judge(name: str, shape: Shape, machine: Machine, cases: int) -> str:
    """ "pass", or how the part failed: the law that it broke, or what it raised.

    Args:
        name: the part's.
        shape: what is to be timed.
        machine: where, and in which dtype.
        cases: how many are drawn, the last one being `shape`.
    """
    dice = random.Random(cases)
    try:
        for case in range(cases):
            torch.manual_seed(case)
            obey(name, shape if case == cases - 1 else small(dice), machine, dice)
    except LawBroken as error:
        return f"failed: {error}"
    except Exception as error:  # a part may be anyone's, and one that cannot run must not stop the others
        return f"failed: {type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    return "pass"


def small(dice: random.Random) -> Shape:
    """A shape of a few thousand numbers."""
    heads = dice.choice([1, 2, 3, 4])
    return Shape(batch=dice.randint(1, 3), time=dice.randint(1, 40), dim=heads * dice.choice([4, 8, 16]), heads=heads)


def obey(name: str, shape: Shape, machine: Machine, dice: random.Random) -> None:
    """One case of each law.

    Raises:
        LawBroken: which, and how.
    """
    layer, x = build(name, shape, machine).eval(), shape.draw(machine)
    tolerance = TOLERANCES[machine.device.type, machine.dtype]
    cut, seed = dice.randrange(shape.time), dice.randrange(2**16)
    cuts = sorted(dice.sample(range(1, shape.time), k=dice.randint(0, min(5, shape.time - 1))))
    laws.causal(layer, x, cut, seed)
    laws.time_prefix(layer, x, cut, tolerance)
    laws.cache_agrees(layer, x, cuts, tolerance)
    if Attention.find(name).function == SOFTMAX:
        exact = dataclasses.replace(machine, dtype=torch.float32)
        one, reference = (build(each, shape, exact).eval() for each in (name, "fused"))
        share_weights(reference, one)
        laws.equivalent(one, reference, x, seed, 10 * TOLERANCES[machine.device.type, torch.float32])


@torch.no_grad()
def share_weights(source: nn.Module, target: nn.Module) -> None:
    """Copy the weights of one writing of a function into another, by the layout they share."""
    weights = to_own(target, to_shared(source, dict(source.named_parameters())))
    for name, parameter in target.named_parameters():
        parameter.copy_(weights[name])
