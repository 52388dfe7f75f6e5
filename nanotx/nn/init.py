"""Initialisation of weights: a value in the recipe, drawn from the seed and the names of the parameters alone.

Weights are drawn in the canonical layout, so that a seed gives one function whichever implementation is built.
"""

import hashlib
import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from nanotx.config.patterns import first_match
from nanotx.config.schema import check_max, check_min
from nanotx.errors import ConfigError
from nanotx.nn.canonical import from_canonical, to_canonical
from nanotx.nn.empty import is_empty

RESIDUAL = "to_out.weight"
"""End of the name of a map that writes into the residual stream."""


@dataclass(frozen=True, kw_only=True)
class InitRule:
    """The initialisation of the parameters whose names match a pattern."""

    match: str = "*"  # pattern of names in the canonical layout, such as `blocks.*.ffn.to_out.weight`
    distribution: Literal["normal", "truncated_normal", "uniform", "orthogonal", "constant"] = "normal"
    std: float = 0.02  # standard deviation; of `orthogonal`, the factor on an orthogonal matrix
    fan_in: bool = False  # divide by the square root of the number of inputs
    value: float = 0.0  # the mean, or the constant

    def __post_init__(self) -> None:
        check_min(self, 0, "std")
        check_max(self, 1_000_000, "std", "value")
        check_min(self, -1_000_000, "value")

    def draw(self, name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
        """Draw the parameter of a name; truncation is at two standard deviations.

        Raises:
            ConfigError: the distribution needs a matrix, and the parameter is not one.
        """
        if len(shape) < 2 and (self.distribution == "orthogonal" or self.fan_in):
            wish = "distribution='orthogonal'" if self.distribution == "orthogonal" else "fan_in"
            raise ConfigError(
                f"init.rules: {wish} needs a matrix, and {name} (match={self.match!r}) has shape {tuple(shape)}; match "
                "fewer parameters, or add a rule for it before this one."
            )
        std = self.std / (math.sqrt(shape[1:].numel()) if self.fan_in else 1.0)
        x = torch.empty(shape)
        if self.distribution == "normal":
            return x.normal_(std=std, generator=generator) + self.value
        if self.distribution == "truncated_normal":
            return nn.init.trunc_normal_(x, std=std, a=-2 * std, b=2 * std, generator=generator) + self.value
        if self.distribution == "uniform":
            bound = math.sqrt(3.0) * std
            return x.uniform_(-bound, bound, generator=generator) + self.value
        if self.distribution == "orthogonal":
            return nn.init.orthogonal_(x, gain=std, generator=generator) + self.value
        return x.fill_(self.value)


@dataclass(frozen=True, kw_only=True)
class Init:
    """GPT-2's rule for weights of linear maps and embeddings, and rules of one's own.

    Source: Radford et al. 2019, Language Models are Unsupervised Multitask Learners, section 2.3
    """

    std: float = 0.02  # standard deviation of the weights of linear maps and embeddings
    depth_scaled: bool = True  # divide it by the square root of the number of residual branches in maps to the stream
    rules: tuple[InitRule, ...] = ()  # for any parameters; the first rule that matches a name decides, without scaling

    def __post_init__(self) -> None:
        check_min(self, 0, "std")
        check_max(self, 1_000_000, "std")


@torch.no_grad()
def draw_weights(model: nn.Module, seed: int, init: Init | None = None, prefix: str = "", uses: int = 1) -> None:
    """Initialise the weights, each from the seed and its name alone.

    Without rules, weights of linear maps and embeddings are normal; biases of linear maps are zero; other parameters
    keep the values that their parts initialised. Of a model without memory for its weights nothing is drawn.

    Args:
        model: the module whose weights are drawn.
        seed: the recipe's.
        init: the distributions; None for the defaults.
        prefix: what the names begin with, in addition to those in the module.
        uses: how many layers share the weights of each block.

    Raises:
        ConfigError: a rule's pattern matches no parameter, or none that is left.
    """
    if is_empty(model):
        return  # another process draws them
    init = init or Init()
    drawn: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and module.bias is not None:
            module.bias.zero_()
        if isinstance(module, nn.Linear | nn.Embedding):
            drawn[f"{name}.weight"] = module.weight
    unique = dict(model.named_parameters())
    drawn = to_canonical(model, {name: unique[name] for name in drawn if name in unique})
    residuals = uses * sum(name.endswith(RESIDUAL) for name in drawn)
    for name, weight in drawn.items():
        std = init.std / math.sqrt(residuals) if init.depth_scaled and name.endswith(RESIDUAL) else init.std
        drawn[name] = torch.empty(weight.shape).normal_(std=std, generator=generator_of(seed, prefix + name))
    if init.rules:
        every = to_canonical(model, dict(unique))
        drawn = {name: parameter.detach() for name, parameter in every.items()} | drawn
        chosen = first_match([prefix + name for name in every], [rule.match for rule in init.rules], "init.rules")
        for name, index in chosen.items():
            inner = name.removeprefix(prefix)
            drawn[inner] = init.rules[index].draw(name, every[inner].shape, generator_of(seed, name))
    for name, weight in from_canonical(model, drawn).items():
        unique[name].copy_(weight)


def generator_of(seed: int, name: str) -> torch.Generator:
    """Return the random generator of one parameter."""
    key = hashlib.sha256(f"{seed} {name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(key[:8], "little") >> 1)
