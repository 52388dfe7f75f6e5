"""Matrices of which each rank has rows, for optimizers that step whole ones.

Each matrix is gathered by one rank, its owner, which alone computes from it and sends the others their rows of the
result. What is in memory beside the slices are the matrices of one round.

Source: Liu et al. 2025, https://arxiv.org/abs/2502.16982, section 2.3, with one owner where each rank computes the same
there.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from nanotx.distributed.owners import divide
from nanotx.distributed.ranks import rows_of
from nanotx.optim.matrices import Function, Matrices

ROUND = 128 * 2**20
"""Bytes of the matrices that a rank owns in one round, if there are more than one for each rank."""


class SlicedMatrices(Matrices):
    """Matrices in slices; a stack of matrices is divided between them, and needs no gathering."""

    def __init__(
        self, shapes: Mapping[Tensor, torch.Size], costs: Mapping[Tensor, float], rank: int, size: int
    ) -> None:
        """Remember what the slices are of.

        Args:
            shapes: of the whole, by the parameter that is this rank's slice.
            costs: of a step of each, in any unit.
            rank: of this process.
            size: the number of ranks.
        """
        self.shapes, self.costs, self.rank, self.size = dict(shapes), dict(costs), rank, size

    def shape(self, parameter: Tensor) -> torch.Size:
        return self.shapes[parameter]

    def groups(self, parameters: Iterable[Tensor]) -> list[list[Tensor]]:
        """Return parameters in rounds: those that cost most first, one for each rank or up to `ROUND` bytes a rank."""
        parameters = sorted(parameters, key=lambda parameter: (str(parameter.dtype), -self.costs[parameter]))
        stacks = [parameter for parameter in parameters if parameter.ndim > 2]
        rounds: list[list[Tensor]] = [stacks] if stacks else []
        sizes = [0] * len(rounds)
        for parameter in parameters:
            if parameter.ndim > 2:
                continue
            nbytes = self.shapes[parameter].numel() * parameter.element_size()
            new = not rounds or rounds[-1] is stacks or rounds[-1][0].dtype != parameter.dtype
            if new or (len(rounds[-1]) >= self.size and sizes[-1] + nbytes > ROUND * self.size):
                rounds.append([])
                sizes.append(0)
            rounds[-1].append(parameter)
            sizes[-1] += nbytes
        return rounds

    def apply(self, function: Function, parameters: list[Tensor], tensors: list[Tensor]) -> list[Tensor]:
        if tensors[0].ndim > 2:  # of some stacks this rank has no matrix
            results = iter(function(some) if (some := [tensor for tensor in tensors if tensor.numel()]) else [])
            return [next(results) if tensor.numel() else tensor for tensor in tensors]
        owners = divide([self.costs[parameter] for parameter in parameters], self.size)
        shapes = [self.shapes[parameter] for parameter in parameters]
        owned = [index for index, owner in enumerate(owners) if owner == self.rank]
        wholes = self.gather(tensors, shapes, owners)
        computed = function(wholes) if wholes else []
        for result, index in zip(computed, owned, strict=True):
            assert (result.shape, result.dtype) == (shapes[index], tensors[index].dtype)
        return self.scatter(computed, tensors, shapes, owners)

    def gather(self, tensors: list[Tensor], shapes: Sequence[torch.Size], owners: Sequence[int]) -> list[Tensor]:
        """Send each slice to the owner of its matrix; return the whole matrices of which this rank is the owner."""
        owned = [shape for shape, owner in zip(shapes, owners, strict=True) if owner == self.rank]
        received = self.exchange(
            [[tensor for tensor, owner in zip(tensors, owners, strict=True) if owner == rank] for rank in self.ranks],
            [[self.slice_of(shape, rank) for shape in owned] for rank in self.ranks],
            tensors[0],
        )
        return [torch.cat(rows) for rows in zip(*received, strict=True)]

    def scatter(
        self, results: list[Tensor], tensors: list[Tensor], shapes: Sequence[torch.Size], owners: Sequence[int]
    ) -> list[Tensor]:
        """Send each rank its rows of the matrices of which this one is the owner; return this rank's rows of all."""
        received = self.exchange(
            [[result[rows_of(len(result), rank, self.size)] for result in results] for rank in self.ranks],
            [
                [self.slice_of(shape, self.rank) for shape, owner in zip(shapes, owners, strict=True) if owner == rank]
                for rank in self.ranks
            ],
            tensors[0],
        )
        of_owner = [iter(rows) for rows in received]
        return [next(of_owner[owner]) for owner in owners]

    @property
    def ranks(self) -> range:
        """Return the numbers of all ranks."""
        return range(self.size)

    def slice_of(self, shape: torch.Size, rank: int) -> torch.Size:
        """Return the shape of a rank's slice of a matrix."""
        rows = rows_of(shape[0], rank, self.size)
        return torch.Size([rows.stop - rows.start, *shape[1:]])

    def exchange(self, sent: list[list[Tensor]], shapes: list[list[torch.Size]], like: Tensor) -> list[list[Tensor]]:
        """Send tensors to each rank; return those that each rank sends to this one.

        Args:
            sent: to each rank.
            shapes: of what comes from each.
            like: a tensor of the dtype and the device of all.
        """
        pieces = [[tensor.flatten() for tensor in tensors] for tensors in sent]
        vector = torch.cat([like.new_empty(0), *(piece for part in pieces for piece in part)])
        counts = [sum(shape.numel() for shape in part) for part in shapes]
        received = like.new_empty(sum(counts))
        dist.all_to_all_single(received, vector, counts, [sum(map(len, part)) for part in pieces])
        return [
            [
                piece.view(shape)
                for piece, shape in zip(part.split([shape.numel() for shape in of_rank]), of_rank, strict=True)
            ]
            for part, of_rank in zip(received.split(counts), shapes, strict=True)
        ]
