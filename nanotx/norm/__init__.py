"""Norms: what brings each position's stream back to one scale."""

from abc import ABC, abstractmethod

from torch import nn

from nanotx.registry import Slot


class Norm(Slot, ABC, slot="norm", package="nanotx.norm"):
    """The slot: a map from stream to stream that acts on each position alone."""

    @abstractmethod
    def build(self, dim: int) -> nn.Module:
        """The module, for a stream of width `dim`."""
