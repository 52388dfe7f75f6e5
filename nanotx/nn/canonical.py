"""Canonical state dict: the layout in which equivalent implementations of one function share their weights.

A module whose weights are laid out in its own way says how to turn them into the canonical layout and back.
Weights are drawn, saved and compared in the canonical layout, so that one seed gives one function whichever
writing is named, and a run trained with one goes on with another.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor, nn

Tensors = dict[str, Tensor]


class CustomLayout(nn.Module, ABC):
    """A module with a layout of its own; names are relative to the module."""

    @abstractmethod
    def to_canonical(self, tensors: Tensors) -> Tensors:
        """Tensors named and shaped as this module's parameters, in the canonical layout."""

    @abstractmethod
    def from_canonical(self, canonical: Tensors) -> Tensors:
        """The inverse of `to_canonical`."""


def to_canonical(model: nn.Module, tensors: Tensors) -> Tensors:
    """Tensors named as the model's parameters (weights, or an optimizer's averages), in the canonical layout."""
    return _map(model, tensors, lambda module: module.to_canonical)


def from_canonical(model: nn.Module, tensors: Tensors) -> Tensors:
    """The inverse of `to_canonical`."""
    return _map(model, tensors, lambda module: module.from_canonical)


def _map(model: nn.Module, tensors: Tensors, side: Callable[[CustomLayout], Callable[[Tensors], Tensors]]) -> Tensors:
    tensors = dict(tensors)
    for name, module in model.named_modules():
        if isinstance(module, CustomLayout):
            prefix = f"{name}." if name else ""
            local = {key.removeprefix(prefix): tensors.pop(key) for key in list(tensors) if key.startswith(prefix)}
            if local:
                tensors |= {prefix + key: tensor for key, tensor in side(module)(local).items()}
    return tensors
