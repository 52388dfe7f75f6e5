"""Optimizers: how a gradient becomes a change of the weights."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar

from torch import nn
from torch.optim import Optimizer as TorchOptimizer

from nanotx.config.registry import Slot

Named = Iterable[tuple[str, nn.Parameter]]


class Optimizer(
    Slot,
    ABC,
    slot="optimizer",
    package="nanotx.optim",
    group="nanotx.optimizers",
    shared=("base", "schedules", "state", "packing"),
):
    """The slot. A part is built from parameters with names, so that its split into groups is visible."""

    takes_sparse: ClassVar[bool] = False  # whether a gradient may hold some rows of a table alone

    lr: float

    @abstractmethod
    def build(self, parameters: Named) -> TorchOptimizer:
        """The optimizer; each of its groups holds its own full rate under `base_lr`."""
