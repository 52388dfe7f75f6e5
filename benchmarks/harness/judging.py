"""Whether two implementations of a model are one function, learn alike, and drop alike: shown before they are timed.

All of it in float32 and as written, at the recipe's sizes and on a few of its windows. What autocast and compiling
make of it is seen where it is timed: the first losses have to be the reference's.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from nanotx.data.batches import Windows
from nanotx.errors import LawBroken
from nanotx.hardware.device import Machine
from nanotx.optim.schedules.constant import Constant
from nanotx.recipe import Recipe

LOGITS, LOSSES, NOISE = 1e-4, 1e-3, 0.04
"""By how much may differ: logits, relative to the largest (or 1); losses of first steps; the variance by dropout."""
CASES, FIRST, DRAWS, TOKENS = 4, 6, 16, 2**12
"""How many models are compared by their logits; how many steps by their losses; for a variance, draws and tokens."""
GAIN = 0.6
"""How much a map of drawn weights widens what it reads: with it, no place of dropout drowns in another's."""
ROWS = 4
"""Windows of a step in which two are compared, at most: a loss over few windows tells as much."""
Advance = Callable[[], float]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A module of ours, another's, and how weights come from the one to the other."""

    ours: nn.Module
    theirs: nn.Module
    give: Callable[[nn.Module, nn.Module], None]


@torch.no_grad()
def same_function(pair: Pair, windows: Windows, machine: Machine, training: bool) -> None:
    """With the same weights, both give the same logits; these weights are drawn anew, and far from small.

    Raises:
        LawBroken: by how much they differ.
    """
    for case in range(CASES):
        ids = scatter(pair, windows, machine, case, deviation=0.2)
        want, got = (one.train(training)(ids) for one in (pair.ours, pair.theirs))
        difference, limit = (want - got).abs().max().item(), LOGITS * max(1.0, want.abs().max().item())
        if not difference <= limit:
            raise LawBroken(f"same_function: logits differ by {difference:.3g}, more than {limit:.3g}.")


@torch.no_grad()
def scatter(pair: Pair, windows: Windows, machine: Machine, case: int, deviation: float) -> Tensor:
    """Draw weights for both; returns ids for them to read."""
    torch.manual_seed(case)
    for parameter in pair.ours.parameters():
        parameter.normal_(std=deviation).add_(float(parameter.ndim == 1))
    pair.give(pair.ours, pair.theirs)
    return windows.batch(case, 2)[0].to(machine.device)


@torch.no_grad()
def same_dropout(pair: Pair, windows: Windows, machine: Machine) -> None:
    """Both drop as much in as many places: what they drop scatters their logits equally far.

    Raises:
        LawBroken: how far each is scattered.
    """
    width = next(parameter.shape[-1] for parameter in pair.ours.parameters() if parameter.ndim == 2)
    ids = scatter(pair, windows, machine, 0, deviation=GAIN / math.sqrt(width))
    ours, theirs = (variance(one.train(), ids) for one in (pair.ours, pair.theirs))
    if not abs(ours - theirs) <= NOISE * max(ours, theirs):
        raise LawBroken(f"same_dropout: what is dropped gives logits a variance of {ours:.3g}, theirs of {theirs:.3g}.")


def variance(module: nn.Module, ids: Tensor) -> float:
    """The mean over all logits of their variance over draws."""
    logits = torch.stack([module(ids).float() for _ in range(max(DRAWS, TOKENS // ids.numel()))])
    return logits.var(dim=0).mean().item()


def same_losses(recipe: Recipe, start: Callable[[Recipe], tuple[Advance, Advance]]) -> None:
    """The first steps of both go the same way, at the full rate from the first on.

    Args:
        recipe: without dropout.
        start: what gives a step of each, from the same weights.

    Raises:
        LawBroken: the step after which they do not.
    """
    plan = replace(recipe.train, batch_size=min(recipe.train.batch_size, ROWS))
    ours, theirs = start(replace(recipe, schedule=Constant(), train=plan))
    for step in range(FIRST):
        one, other = ours(), theirs()
        if not abs(one - other) <= LOSSES:
            raise LawBroken(f"same_losses: after {step} steps, ours is {one:.6f} and theirs {other:.6f}.")
