"""Whole matrices, for an optimizer whose parameters may be slices of them.

An optimizer such as Muon steps a matrix by a function of the whole of it, and does all else element by element. It asks
`Matrices` for that function's result, and keeps its state in slices where its parameters are.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

Function = Callable[[list[Tensor]], list[Tensor]]
"""Computes from whole matrices, and returns a matrix of the same shape and dtype for each; a stack by its matrices."""


class Matrices:
    """Matrices of one process: the parameters are whole."""

    def shape(self, parameter: Tensor) -> torch.Size:
        """Return the shape of the whole of a parameter."""
        return parameter.shape

    def groups(self, parameters: Iterable[Tensor]) -> list[list[Tensor]]:
        """Return parameters in the groups that are to be stepped one after the other, which bounds temporary memory."""
        return by_shape(parameters, lambda parameter: parameter.shape)

    def apply(self, function: Function, parameters: list[Tensor], tensors: list[Tensor]) -> list[Tensor]:
        """Return what a function makes of whole matrices.

        Args:
            function: of the whole; what it returns for a matrix depends on that one alone.
            parameters: a group.
            tensors: one shaped like each parameter, such as its momentum.
        """
        return function(tensors)


class MatrixOptimizer(torch.optim.Optimizer):
    """An optimizer that steps each element by itself, but for what it computes by `matrices`."""

    matrices: Matrices = Matrices()


def by_shape(tensors: Iterable[Tensor], shape: Callable[[Tensor], torch.Size]) -> list[list[Tensor]]:
    """Return tensors of equal shape and dtype together, in the order in which they come."""
    groups: dict[tuple[torch.Size, torch.dtype], list[Tensor]] = {}
    for tensor in tensors:
        groups.setdefault((shape(tensor), tensor.dtype), []).append(tensor)
    return [*groups.values()]
