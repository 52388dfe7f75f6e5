"""Laws of initialisation: weights depend on the seed and on their own names, and have the scale that is stated."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import combinations

import torch
from torch import Tensor, nn
from torch.nn import functional

from nanotx.errors import LawBroken
from nanotx.laws.weights import seeded
from nanotx.nn.canonical import to_canonical
from nanotx.nn.init import RESIDUAL, InitRule, draw_weights
from nanotx.nn.transformer import Model

Weights = Mapping[str, Tensor]
"""Parameters by their names in the canonical layout."""

SIGMAS = 6.0
"""Standard errors by which a mean or a standard deviation may miss the stated one."""
MIN_NUMBERS = 64
"""Smaller parameters have no scale that could be measured."""
TRUNCATED_STD = 0.8796256610342398
"""Standard deviation of a standard normal truncated at two: sqrt(1 - 4 phi(2) / (2 Phi(2) - 1))."""


def init_drawn_by_name(build: Callable[[], nn.Module], seed: int) -> None:
    """Raise LawBroken unless the weights of a module depend on the seed and their names alone.

    Args:
        build: builds the module; it may draw numbers from PyTorch's global generator.
        seed: of the weights.

    Raises:
        LawBroken: a parameter depends on what was drawn before; the message names it.
    """

    def drawn(state: int) -> Weights:
        with seeded(state):
            module = nn.ModuleDict({"part": build()})
            draw_weights(module, seed)
        return canonical(module)

    require_same_bits(drawn(0), drawn(1), "other numbers were drawn before")


def init_as_stated(config: Model, vocab_size: int, seed: int) -> None:
    """Raise LawBroken unless the weights of a model are those that its `init` states.

    A parameter depends on the seed and its name, whatever the rest of the model is; a rule reaches the names that it is
    the first to match, and no others; each has the mean, the scale and the form that are stated.

    Raises:
        LawBroken: the message names a parameter.
    """
    model = config.build(vocab_size, seed)
    weights, rules = canonical(model), config.init.rules
    ruled = {name: rule for name in weights if (rule := first_rule(name, rules)) is not None}
    stated = stated_scales(model, config, set(ruled)) | ruled

    require_same_bits(weights, canonical(config.build(vocab_size + 1, seed)), "the vocabulary is larger")
    longer = canonical(one_block_longer(config).build(vocab_size, seed))
    scaled_by_depth = {name for name in stated if name.endswith(RESIDUAL) and name not in ruled}
    require_same_bits({k: v for k, v in weights.items() if k not in scaled_by_depth}, longer, "there is one more layer")
    plain = canonical(replace(config, init=replace(config.init, rules=())).build(vocab_size, seed))
    require_same_bits(
        {k: v for k, v in weights.items() if k not in ruled}, plain, "no rule is given, and none matches it"
    )

    for name, rule in stated.items():
        require_form(name, weights[name], rule)
    require_distinct(weights, canonical(config.build(vocab_size, seed + 1)), stated)
    require_scale(weights, stated)
    require_zero_biases(model, weights, set(ruled))


def one_block_longer(config: Model) -> Model:
    """Return the model with one more block; the blocks before it are the same."""
    blocks = config.blocks[: config.layers // config.share]
    return replace(config, layers=config.layers + config.share, blocks=blocks)


def canonical(module: nn.Module) -> Weights:
    """Return the parameters of a module in the canonical layout."""
    return {n: p.detach() for n, p in to_canonical(module, dict(module.named_parameters())).items()}


def first_rule(name: str, rules: tuple[InitRule, ...]) -> InitRule | None:
    """Return the first rule whose pattern matches a name, read as a regular expression; None if none does."""
    for rule in rules:
        pattern = "".join({"*": ".*", "?": "."}.get(character, re.escape(character)) for character in rule.match)
        if re.fullmatch(pattern, name):
            return rule
    return None


def stated_scales(model: nn.Module, config: Model, ruled: set[str]) -> dict[str, InitRule]:
    """Return what `init` states without rules, as a rule for each weight of a linear map or an embedding."""
    owned = dict(model.named_parameters())
    maps = [f"{name}.weight" for name, m in model.named_modules() if isinstance(m, nn.Linear | nn.Embedding)]
    names = to_canonical(model, {name: owned[name] for name in maps if name in owned})
    branches = config.share * sum(name.endswith(RESIDUAL) for name in names)
    init = config.init
    return {
        name: InitRule(std=init.std / math.sqrt(branches if init.depth_scaled and name.endswith(RESIDUAL) else 1))
        for name in names
        if name not in ruled
    }


def require_same_bits(weights: Weights, others: Weights, what: str) -> None:
    """Raise LawBroken unless parameters that both have, in one shape, are equal to the bit."""
    for name, weight in weights.items():
        if name in others and others[name].shape == weight.shape and not torch.equal(weight, others[name]):
            raise LawBroken(
                f"init: {name} starts with other numbers when {what}; make it the weight of an nn.Linear or an "
                "nn.Embedding, which is drawn by seed and name, or start it at a constant."
            )


def stated_std(rule: InitRule, shape: torch.Size) -> float:
    """Return the standard deviation of the numbers that a rule draws, before truncation."""
    return rule.std / (math.sqrt(shape[1:].numel()) if rule.fan_in else 1.0)


def require_form(name: str, weight: Tensor, rule: InitRule) -> None:
    """Raise LawBroken unless a parameter is constant, orthogonal or bounded where its rule says so."""
    x, std = (weight - rule.value).double(), stated_std(rule, weight.shape)
    matrix = x.flatten(start_dim=1) if x.ndim > 1 else x
    bounds = {"constant": 0.0, "uniform": math.sqrt(3.0) * std, "truncated_normal": 2 * std}
    bound = bounds.get(rule.distribution, math.inf)
    if x.numel() and x.abs().max() > bound + 1e-6 * max(1.0, abs(rule.value)):
        raise LawBroken(
            f"init: {name} is {float(x.abs().max()):.6g} from {rule.value}, and at most {bound:.6g} is stated."
        )
    if rule.distribution == "orthogonal":
        gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
        if not torch.allclose(gram, std**2 * torch.eye(len(gram), dtype=gram.dtype), atol=1e-4 * max(1.0, std**2)):
            raise LawBroken(f"init: {name} is stated as {std} times an orthogonal matrix, and is none.")


def standardised(weight: Tensor, rule: InitRule) -> Tensor:
    """Return the numbers of a parameter, scaled to mean 0 and standard deviation 1; none if they are not random."""
    std = stated_std(rule, weight.shape) * (TRUNCATED_STD if rule.distribution == "truncated_normal" else 1.0)
    if rule.distribution in ("constant", "orthogonal") or not std:
        return torch.zeros(0)
    return (weight - rule.value).double().flatten() / std


def require_scale(weights: Weights, stated: Mapping[str, InitRule]) -> None:
    """Raise LawBroken unless means and standard deviations are as stated, of each parameter and of all together."""
    numbers = {name: standardised(weights[name], rule) for name, rule in stated.items()}
    everything = {"all weights together": torch.cat([torch.zeros(0), *numbers.values()])}
    for name, z in (numbers | everything).items():
        if z.numel() < MIN_NUMBERS:
            continue
        mean, deviation = float(z.mean()), float(z.square().mean().sqrt())
        if abs(mean) > SIGMAS / math.sqrt(z.numel()) or abs(deviation - 1) > SIGMAS / math.sqrt(2 * z.numel()):
            raise LawBroken(
                f"init: {name}: relative to what is stated, the mean is {mean:.3f} for 0 and the standard deviation "
                f"{deviation:.3f} for 1, over {z.numel()} numbers."
            )


def require_distinct(weights: Weights, others: Weights, stated: Mapping[str, InitRule]) -> None:
    """Raise LawBroken if two parameters, or two seeds, share their random numbers."""

    def directions(values: Weights) -> dict[str, Tensor]:
        numbers = {name: standardised(values[name], rule) for name, rule in stated.items()}
        return {name: functional.normalize(z, dim=0) for name, z in numbers.items() if z.numel() > 3}

    drawn, drawn_with_another_seed = directions(weights), directions(others)
    for name, z in drawn.items():
        if torch.allclose(z, drawn_with_another_seed[name]):
            raise LawBroken(f"init: {name} has the same random numbers with another seed.")
    for (name, z), (other, other_z) in combinations(drawn.items(), 2):
        if z.shape == other_z.shape and torch.allclose(z, other_z):
            raise LawBroken(f"init: {name} and {other} share their random numbers.")


def require_zero_biases(model: nn.Module, weights: Weights, ruled: set[str]) -> None:
    """Raise LawBroken unless the biases of linear maps are zero where no rule reaches them."""
    owned = dict(model.named_parameters())
    biases = [f"{name}.bias" for name, m in model.named_modules() if isinstance(m, nn.Linear) and m.bias is not None]
    for name in to_canonical(model, {name: owned[name] for name in biases if name in owned}):
        if name not in ruled and weights[name].any():
            raise LawBroken(f"init: {name} is the bias of a linear map, and does not start at zero.")
