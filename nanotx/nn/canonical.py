"""Canonical layout: the state dict in which equivalent implementations of one function share their weights.

A module that stores its weights in a layout of its own converts them to the canonical layout and back. Weights are
drawn, saved and compared in the canonical layout, so that a seed gives the same function in every implementation, and
a run trained with one implementation can be resumed with another.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from torch import Tensor, nn

Tensors = dict[str, Tensor]


class CustomLayout(nn.Module, ABC):
    """A module with a layout of its own; parameter names are relative to the module."""

    @abstractmethod
    def to_canonical(self, tensors: Tensors) -> Tensors:
        """Convert tensors named and shaped as this module's parameters to the canonical layout."""

    @abstractmethod
    def from_canonical(self, canonical: Tensors) -> Tensors:
        """Convert tensors from the canonical layout to this module's own: the inverse of `to_canonical`."""


class WithAdded(nn.Module):
    """A module with parameters that an adapter added; they are the same in every layout."""

    adds: ClassVar[tuple[str, ...]] = ()  # names of these parameters


def added_names(model: nn.Module) -> list[str]:
    """Return the names of the parameters that an adapter added to a model."""
    layers = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, WithAdded)]
    return [f"{name}.{added}" if name else added for name, layer in layers for added in layer.adds]


def to_canonical(model: nn.Module, tensors: Tensors) -> Tensors:
    """Convert tensors named as the model's parameters (weights, or optimizer state) to the canonical layout."""
    return _map(model, tensors, lambda module: module.to_canonical)


def from_canonical(model: nn.Module, tensors: Tensors) -> Tensors:
    """Convert tensors from the canonical layout to the model's own: the inverse of `to_canonical`."""
    return _map(model, tensors, lambda module: module.from_canonical)


def _map(
    model: nn.Module, tensors: Tensors, direction: Callable[[CustomLayout], Callable[[Tensors], Tensors]]
) -> Tensors:
    tensors, added = dict(tensors), {*added_names(model)}
    for name, module in model.named_modules():
        if isinstance(module, CustomLayout):
            prefix = f"{name}." if name else ""
            own = [key for key in tensors if key.startswith(prefix) and key not in added]
            local = {key.removeprefix(prefix): tensors.pop(key) for key in own}
            if local:
                tensors |= {prefix + key: tensor for key, tensor in direction(module)(local).items()}
    return tensors
