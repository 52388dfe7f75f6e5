"""Adapters: each wraps linear maps of a model, whose own weights then stay as they are.

A wrapped map keeps the names of its weight and its bias, so that a model takes the weights of one without an adapter.
The parameters that it adds are named in its `adds`; only they are trained.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from nanotx.config.registry import Slot
from nanotx.errors import ConfigError
from nanotx.nn.canonical import WithAdded, added_names
from nanotx.nn.init import generator_of
from nanotx.nn.linear import Linear

READ = ("router",)
"""Last words of the names of linear maps whose weight is read where it is, so that they cannot be wrapped."""

SHOWN = 6
"""Names that a message lists."""


class AdaptedLinear(Linear, WithAdded, ABC):
    """A linear map to whose weight something is added."""

    def __init__(self, linear: nn.Linear) -> None:
        """Take the weight and the bias of another map, which are not drawn again."""
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight = linear.weight
        self.register_parameter("bias", linear.bias)

    @abstractmethod
    def delta(self) -> Tensor:
        """Return what is added to the weight."""

    @abstractmethod
    def draw(self, name: str, generator: torch.Generator) -> Tensor:
        """Return the initial values of an added parameter; with those of all of them, `delta` is zero."""


@dataclass(frozen=True, kw_only=True)
class Adapt(Slot, ABC, slot="adapt", package="nanotx.nn.adapt", group="nanotx.adapt"):
    """The adapter slot: how linear maps of a trained model are wrapped, so that only what is added is trained."""

    @property
    @abstractmethod
    def patterns(self) -> tuple[str, ...]:
        """Return patterns of the names of the linear maps that it wraps; nothing for a model as it is."""

    @abstractmethod
    def wrap(self, linear: nn.Linear, name: str) -> AdaptedLinear:
        """Return a map that has the weight and the bias of another, and adds to it.

        Raises:
            ConfigError: it does not fit the size of the map.
        """

    def apply(self, model: nn.Module, tied: bool = False) -> None:
        """Wrap the linear maps of a model whose names match a pattern.

        Args:
            model: the model.
            tied: its head is its embedding.

        Raises:
            ConfigError: a pattern matches no linear map, or one that cannot be wrapped.
        """
        maps = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
        wrappable = [name for name in maps if name.rpartition(".")[2] not in READ and not (tied and name == "head")]
        for pattern in self.patterns:
            if not any(fnmatchcase(name, pattern) for name in wrappable):
                raise ConfigError(f"{self.part}: targets: {pattern!r} {no_target(pattern, list(maps), wrappable)}")
        for name in wrappable:
            if any(fnmatchcase(name, pattern) for pattern in self.patterns):
                parent, _, leaf = name.rpartition(".")
                setattr(model.get_submodule(parent), leaf, self.wrap(maps[name], name))


def no_target(pattern: str, maps: list[str], wrappable: list[str]) -> str:
    """Return why a pattern has no target, and what it may have meant."""
    if matched := [name for name in maps if fnmatchcase(name, pattern)]:
        return f"matches only {matched[0]}, whose weight is used elsewhere too; name another linear map."
    close = get_close_matches(pattern, wrappable, SHOWN, 0.4) or wrappable[:SHOWN]
    return f"matches no linear map. There are {', '.join(close)}{', ..' * (len(wrappable) > len(close))}."


def adapted(model: nn.Module) -> Iterator[tuple[str, AdaptedLinear]]:
    """Yield the wrapped maps of a model by name."""
    for name, layer in model.named_modules():
        if isinstance(layer, AdaptedLinear):
            yield name, layer


@torch.no_grad()
def draw_added(model: nn.Module, seed: int) -> None:
    """Initialise the parameters of an adapter, each from the seed and its name alone."""
    for name, layer in adapted(model):
        for added in layer.adds:
            layer.get_parameter(added).copy_(layer.draw(added, generator_of(seed, f"{name}.{added}")))


@torch.no_grad()
def merged_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and buffers of a model with its adapter added to the weights that it wraps."""
    added, state = {*added_names(model)}, dict(model.state_dict())
    for name, layer in adapted(model):
        state[f"{name}.weight"] = layer.weight + layer.delta()
    return {name: tensor for name, tensor in state.items() if name not in added}
