"""Optimizers: how a gradient becomes a change of the weights."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from torch import nn
from torch.optim import Optimizer as TorchOptimizer

from nanotx.config.registry import Slot
from nanotx.optim.groups import ParamGroup, apply_groups

Named = Iterable[tuple[str, nn.Parameter]]


@dataclass(frozen=True, kw_only=True)
class Optimizer(
    Slot,
    ABC,
    slot="optimizer",
    package="nanotx.optim",
    group="nanotx.optimizers",
    shared=("base", "groups", "schedules", "state", "packing", "matrices"),
):
    """The optimizer slot. A part is built from named parameters, so that its groups can depend on the names."""

    part_specific = ("lr",)  # a rate that suits one optimizer is orders of magnitude off for another
    separable: ClassVar[bool] = False  # whether a parameter's step and state, which is tensors, depend on it alone
    elementwise: ClassVar[bool] = False  # whether the step and state of some rows are those rows of step and state
    by_matrices: ClassVar[bool] = False  # whether it is so but for what a `MatrixOptimizer` asks of whole matrices
    takes_sparse: ClassVar[bool] = False  # whether a gradient may hold some rows of a table alone

    lr: float = 1e-3  # before the schedule's factor
    groups: tuple[ParamGroup, ...] = ()  # other settings of some parameters, by name; the first match decides

    @abstractmethod
    def build(self, parameters: Named) -> TorchOptimizer:
        """Build the optimizer; each of its groups holds its own full learning rate under `base_lr`.

        A part ignores `groups`: `build_grouped` applies them to what it builds.
        """

    def build_grouped(self, parameters: Named) -> TorchOptimizer:
        """Build the optimizer with `groups` applied.

        Raises:
            ConfigError: the pattern of a group matches no parameter.
        """
        named = list(parameters)
        optimizer = self.build(named)
        if self.groups:
            apply_groups(optimizer, self.groups, named)
        return optimizer

    def step_cost(self, name: str, parameter: nn.Parameter) -> float:
        """Return what a step of a parameter costs, in any unit: processes that divide the steps share it evenly."""
        return float(parameter.numel())
