"""The laws of a contender: it is the baseline's function, is trained as it is, and drops as much.

All of it in float32 and eager, at the recipe's sizes and on a few of its windows. What autocast and compiling change is
seen where it is timed: the first losses have to be near the baseline's (`race.py`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from harness.contenders import CONTENDERS, Contender, PlainLoop, use_torch_dropout, with_attention
from harness.gpt2 import LIBRARIES, copy_weights
from harness.laws import PASS
from harness.recipes import dataset_of, with_dropout
from nanotx.data.batches import Windows
from nanotx.errors import ConfigError, LawBroken
from nanotx.hardware.device import Machine, choose_machine
from nanotx.laws.weights import share_weights
from nanotx.optim.schedules.constant import Constant
from nanotx.recipe import Recipe
from nanotx.training.dataset import Dataset

MAX_LOGIT_DIFFERENCE = 1e-4  # relative to the largest (or 1)
MAX_LOSS_DIFFERENCE = 1e-3  # nats per token
MAX_VARIANCE_DIFFERENCE = 0.04  # relative
CASES = 4
"""Models that are compared by their logits."""
FIRST_STEPS, ROWS = 6, 4
"""Steps whose losses are compared, and windows of such a step at most: a loss over few windows shows as much."""
DRAWS, TOKENS = 16, 2**12
"""For a variance, draws at least, and tokens over all draws."""
GAIN = 0.6
"""How much a map of drawn weights widens its input: with it, no place of dropout drowns in another's."""


def verdict_on(name: str, recipe: Recipe, dropouts: tuple[float, ...], device: str, threads: int) -> str:
    """Return "pass", or in which way a contender is not equal to the baseline."""
    data, machine = dataset_of(recipe), choose_machine(device, "float32", threads)
    windows = data.windows
    assert isinstance(windows, Windows)
    who, plain = CONTENDERS[name], with_dropout(recipe, 0.0)
    try:
        for training in (False, True):
            same_function(build_pair(who, plain, data, machine), windows, machine, training)
        same_losses(plain, who, data, machine)
        for fraction in dropouts:
            if fraction:
                pair = build_pair(who, with_dropout(recipe, fraction), data, machine)
                same_dropout(pair, windows, machine)
    except (LawBroken, ConfigError) as error:
        return f"failed: {error}"
    return PASS


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Our plain model and a contender's, with the same biases, and how weights are copied from one to the other."""

    ours: nn.Module
    theirs: nn.Module
    copy: Callable[[nn.Module, nn.Module], None]


def build_pair(who: Contender, recipe: Recipe, data: Dataset, machine: Machine) -> Pair:
    """Build both models, untrained."""
    vocab_size = data.codec.vocab_size
    if who.library:
        recipe = LIBRARIES[who.library].with_own_biases(recipe)
    ours = recipe.model.build(vocab_size).to(machine.device)
    use_torch_dropout(ours)
    if not who.library:
        theirs: nn.Module = with_attention(recipe, who.attention).model.build(vocab_size)
        return Pair(ours=ours, theirs=theirs.to(machine.device), copy=share_weights)
    library = LIBRARIES[who.library]
    theirs = library.build(recipe, vocab_size).to(machine.device)
    return Pair(ours=ours, theirs=theirs, copy=partial(copy_weights, library=library))


@torch.no_grad()
def draw_weights(pair: Pair, windows: Windows, machine: Machine, case: int, deviation: float) -> Tensor:
    """Draw weights for both; return ids for them to read."""
    torch.manual_seed(case)
    for param in pair.ours.parameters():
        param.normal_(std=deviation).add_(float(param.ndim == 1))
    pair.copy(pair.ours, pair.theirs)
    return windows.batch(case, 2)[0].to(machine.device)


@torch.no_grad()
def same_function(pair: Pair, windows: Windows, machine: Machine, training: bool) -> None:
    """With the same weights, drawn far from small, both give the same logits.

    Raises:
        LawBroken: by how much they differ.
    """
    for case in range(CASES):
        ids = draw_weights(pair, windows, machine, case, deviation=0.2)
        want, got = (model.train(training)(ids) for model in (pair.ours, pair.theirs))
        difference, limit = (want - got).abs().max().item(), MAX_LOGIT_DIFFERENCE * max(1.0, want.abs().max().item())
        if not difference <= limit:
            raise LawBroken(f"same_function: logits differ by {difference:.3g}, more than {limit:.3g}.")


@torch.no_grad()
def same_dropout(pair: Pair, windows: Windows, machine: Machine) -> None:
    """Both drop as much in as many places: their logits have the same variance.

    Raises:
        LawBroken: the variance of each.
    """
    width = next(param.shape[-1] for param in pair.ours.parameters() if param.ndim == 2)
    ids = draw_weights(pair, windows, machine, 0, deviation=GAIN / math.sqrt(width))
    ours, theirs = (variance(model.train(), ids) for model in (pair.ours, pair.theirs))
    if not abs(ours - theirs) <= MAX_VARIANCE_DIFFERENCE * max(ours, theirs):
        raise LawBroken(f"same_dropout: what is dropped gives logits a variance of {ours:.3g}, theirs of {theirs:.3g}.")


def variance(model: nn.Module, ids: Tensor) -> float:
    """Return the mean over all logits of their variance over draws of dropout."""
    logits = torch.stack([model(ids).float() for _ in range(max(DRAWS, TOKENS // ids.numel()))])
    return logits.var(dim=0).mean().item()


def same_losses(recipe: Recipe, who: Contender, data: Dataset, machine: Machine) -> None:
    """The first steps of both have the same losses, from the same weights, at the full rate from the first step on.

    Raises:
        LawBroken: the step after which they do not.
    """
    plan = replace(recipe.train, batch_size=min(recipe.train.batch_size, ROWS))
    recipe = replace(recipe, schedule=Constant(), train=plan)
    pair = build_pair(who, recipe, data, machine)
    pair.copy(pair.ours, pair.theirs)
    ours, theirs = (PlainLoop(recipe, model, data, machine, compiled=False) for model in (pair.ours, pair.theirs))
    for step in range(FIRST_STEPS):
        mine, other = ours.step(), theirs.step()
        if not abs(mine - other) <= MAX_LOSS_DIFFERENCE:
            raise LawBroken(f"same_losses: after {step} steps, ours is {mine:.6f} and theirs {other:.6f}.")
