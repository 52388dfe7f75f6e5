"""Feed-forward layers, which act on each position separately."""

from abc import ABC, abstractmethod

from torch import nn

from nanotx.config.registry import Slot


class Ffn(Slot, ABC, slot="ffn", package="nanotx.nn.ffn", group="nanotx.ffn", shared=("base", "gated")):
    """The ffn slot: a map from stream to stream that acts on each position separately."""

    @abstractmethod
    def build(self, dim: int) -> nn.Module:
        """Build the module for a stream of width `dim`."""


class Sparse(nn.Module, ABC):
    """A module of which each token uses only a part of the weights."""

    @property
    @abstractmethod
    def inactive_params(self) -> int:
        """Number of weights of its linear maps that a token does not use."""
