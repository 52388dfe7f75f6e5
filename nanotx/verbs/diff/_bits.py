"""Tensors compared bit by bit."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

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
