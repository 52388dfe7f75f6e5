"""Norms: what brings each position's stream back to one scale."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import nn

from nanotx.config.registry import Slot


class Norm(Slot, ABC, slot="norm", package="nanotx.nn.norm", group="nanotx.norm"):
    """The slot: a map from stream to stream that acts on each position alone."""

    scale_free: ClassVar[bool] = True  # whether an input of another scale comes out the same

    @abstractmethod
    def build(self, dim: int) -> nn.Module:
        """The module, for a stream of width `dim`."""
