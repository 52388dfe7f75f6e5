"""Norms, which normalise each position of the stream."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import nn

from nanotx.config.registry import Slot


class Norm(Slot, ABC, slot="norm", package="nanotx.nn.norm", group="nanotx.norm"):
    """The norm slot: a map from stream to stream that acts on each position separately."""

    scale_free: ClassVar[bool] = True  # whether scaling the input leaves the output unchanged

    @abstractmethod
    def build(self, dim: int) -> nn.Module:
        """Build the module for a stream of width `dim`."""
