"""Canonical state dict: the layout in which equivalent implementations of one function share their weights.

A module whose weights are laid out in its own way says how to turn them into the shared layout and back.
Weights are drawn, saved and compared in the shared layout, so that one seed gives one function whichever
writing is named, and a run trained with one goes on with another.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor, nn

Tensors = dict[str, Tensor]


class OwnLayout(nn.Module, ABC):
    """A module with a layout of its own; names are relative to the module."""

    @abstractmethod
    def shared(self, own: Tensors) -> Tensors:
        """Tensors named and shaped as this module's parameters, in the shared layout."""

    @abstractmethod
    def own(self, shared: Tensors) -> Tensors:
        """The inverse of `shared`."""


def to_shared(model: nn.Module, tensors: Tensors) -> Tensors:
    """Tensors named as the model's parameters (weights, or an optimizer's averages), in the shared layout."""
    return _map(model, tensors, lambda module: module.shared)


def to_own(model: nn.Module, tensors: Tensors) -> Tensors:
    """The inverse of `to_shared`."""
    return _map(model, tensors, lambda module: module.own)


def _map(model: nn.Module, tensors: Tensors, side: Callable[[OwnLayout], Callable[[Tensors], Tensors]]) -> Tensors:
    tensors = dict(tensors)
    for name, module in model.named_modules():
        if isinstance(module, OwnLayout):
            prefix = f"{name}." if name else ""
            local = {key.removeprefix(prefix): tensors.pop(key) for key in list(tensors) if key.startswith(prefix)}
            if local:
                tensors |= {prefix + key: tensor for key, tensor in side(module)(local).items()}
    return tensors
