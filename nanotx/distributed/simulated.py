"""Rank 0 of many, without the others: a plan takes its step on one machine.

PyTorch's fake process group has any number of ranks; what they would send never comes, and tensors keep what they held.
So only shapes, and the memory they take, are those of a real step.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.distributed import HashStore  # type: ignore[attr-defined]
from torch.testing._internal.distributed.fake_pg import FakeStore

from nanotx.distributed.agreement import Agreement
from nanotx.distributed.group import Group
from nanotx.distributed.ranks import Alone, Parallel
from nanotx.distributed.table_rows import ReadRows
from nanotx.distributed.tree import Sum, add_rows, sparse, tree_sum
from nanotx.nn.empty import allocate

if TYPE_CHECKING:
    from nanotx.distributed.slices import Slices


class MicroBatches:
    """Micro-batches of which only some are computed: of the others a plan needs the memory of their gradients alone."""

    def __init__(self) -> None:
        self.computed: Collection[int] | None = None  # their numbers; None for all
        self.rows = dict[int, int]()  # of gradients that are sparse, by the number of the parameter

    def leaf(self, micro_batch: Callable[[int], Sum], parameters: Sequence[Tensor]) -> Callable[[int], Sum]:
        """Return what computes a micro-batch, or makes gradients of any contents in its place."""

        def leaf(number: int) -> Sum:
            if self.computed is not None and number not in self.computed:
                gradients = [self.made(index, parameter) for index, parameter in enumerate(parameters)]
                return Sum(gradients, {"loss": torch.zeros(())})
            total = micro_batch(number)
            for index, gradient in enumerate(total.gradients):
                if gradient is not None and gradient.is_sparse:
                    self.rows[index] = gradient._nnz()
            return total

        return leaf

    def made(self, index: int, parameter: Tensor) -> Tensor | None:
        """Return a gradient of a parameter, of any contents; a sparse one if a computed one was."""
        if not parameter.requires_grad:
            return None
        if index not in self.rows:
            return torch.empty_like(parameter, requires_grad=False)
        numbers = torch.arange(self.rows[index], device=parameter.device)
        return sparse(numbers, parameter.new_empty(len(numbers), *parameter.shape[1:]), parameter)


class SimulatedAlone(Alone):
    """One process, of whose micro-batches some are computed."""

    def __init__(self) -> None:
        self.micro_batches = MicroBatches()

    def sum(self, micro_batch: Callable[[int], Sum], count: int, parameters: Sequence[Tensor]) -> Sum:
        return super().sum(self.micro_batches.leaf(micro_batch, parameters), count, parameters)


class SimulatedAgreement(Agreement):
    """What rank 0 knows of ranks that are not there: each of them does as it does."""

    def __init__(self, size: int) -> None:
        super().__init__(0, size, HashStore(), timedelta(seconds=1))

    def hear(self, error: BaseException | None, kinds: Sequence[int] = ()) -> list[list[int]]:
        """Return this rank's `kinds` for each rank; raise its error if there is one."""
        if error is not None:
            raise error
        return [list(kinds)] * self.size


class SimulatedGroup(Group):
    """Ranks of which only this one, rank 0, is there."""

    def __init__(self, size: int, parallel: Parallel) -> None:
        """Take a place in the fake process group, which exists."""
        self.agreement = SimulatedAgreement(size)
        self.rank, self.size, self.parallel = 0, size, parallel
        self.reduce, self.dense, self.owners, self.slices = "fast", [], None, None
        self.orders = dist.group.WORLD
        self.micro_batches = MicroBatches()

    def sum(self, micro_batch: Callable[[int], Sum], count: int, parameters: Sequence[Tensor]) -> Sum:
        return super().sum(self.micro_batches.leaf(micro_batch, parameters), count, parameters)

    def gather_rows(self, gradient: Tensor | None, table: Tensor, present: Sequence[bool]) -> Tensor:
        """Return the sum of as many sparse gradients as there are ranks, each with as many rows as this rank's."""
        assert gradient is not None
        own = gradient.coalesce()
        others = [(own.indices().clone(), own.values().clone()) for _ in present]
        rows = [sparse(numbers[0], values, table) for numbers, values in others]
        return tree_sum(range(self.size), lambda rank: rows[rank], add_rows)

    def slice(self, model: nn.Module, blocks: Iterable[nn.Module], device: torch.device) -> "Slices | None":
        allocate(model, model.parameters(), device)  # as tensors without data, where the model's have none
        with unset_fake_temporarily():  # the numbers of the ranks are data
            slices = super().slice(model, blocks, device)
        if slices is not None:
            slices.rows = {name: AllRows() for name in slices.rows}
        return slices


class AllRows(ReadRows):
    """The rows of a table that a step has read, of which a plan knows nothing: at most all."""

    def __init__(self) -> None:
        """Note nothing."""

    def clear(self) -> None:
        """Forget what was read."""

    def of(self, gradient: Tensor, rows: slice) -> Tensor:
        """Return a sparse gradient with all rows of a dense one."""
        return sparse(torch.arange(len(gradient), device=gradient.device), gradient.clone(), gradient)


@contextmanager
def simulated_ranks(size: int, parallel: Parallel) -> Iterator[SimulatedGroup]:
    """Context in which this process, which trains with no others, is rank 0 of a fake process group.

    Args:
        size: the number of ranks.
        parallel: what is divided among them.
    """
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=size)
    try:
        yield SimulatedGroup(size, parallel)
    finally:
        dist.destroy_process_group()
