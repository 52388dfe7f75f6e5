"""Feed-forward layers: what each position makes of what it has read."""

from abc import ABC, abstractmethod

from torch import nn

from nanotx.config.registry import Slot


class Ffn(Slot, ABC, slot="ffn", package="nanotx.nn.ffn", group="nanotx.ffn", shared=("base", "gated")):
    """The slot: a map from stream to stream that acts on each position alone."""

    @abstractmethod
    def build(self, dim: int) -> nn.Module:
        """The module, for a stream of width `dim`."""


class Sparse(nn.Module, ABC):
    """A module of whose weights a token meets only some."""

    @property
    @abstractmethod
    def inactive_params(self) -> int:
        """How many weights of its linear maps a token does not meet."""
