"""The rows of a table that a step has read, where weights are in slices: FSDP2 sums dense gradients alone.

An optimizer that takes sparse gradients steps only the rows that they have. With this it does so for slices too.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from nanotx.distributed.tree import sparse


class ReadRows:
    """Which rows of a table a step has read."""

    def __init__(self, table: nn.Embedding) -> None:
        """Note what the table is asked for while gradients are computed, from now on; these are dense."""
        self.read = torch.zeros(table.num_embeddings, dtype=torch.uint8)
        table.sparse = False
        table.register_forward_pre_hook(self.note)

    def note(self, table: nn.Module, args: tuple[Any, ...]) -> None:
        """Note the ids that a table is called with."""
        if torch.is_grad_enabled():
            self.read = self.read.to(args[0].device)
            self.read[args[0].flatten()] = 1

    def clear(self) -> None:
        """Forget what was read."""
        self.read.zero_()

    def of(self, gradient: Tensor, rows: slice) -> Tensor:
        """Return the sparse gradient of the rows that any rank has read.

        Args:
            gradient: of some rows of the table, dense.
            rows: which ones.
        """
        read = self.read.to(gradient.device, copy=True)
        dist.all_reduce(read, dist.ReduceOp.MAX)
        numbers = read[rows].nonzero().flatten()
        return sparse(numbers, gradient[numbers], gradient)


def note_rows(model: nn.Module) -> dict[str, ReadRows]:
    """Note the rows of each table whose gradient is to be sparse; return what notes them by the table's name.

    A table that is tied to another map has a dense gradient anyway.
    """
    users: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        users.setdefault(id(parameter), []).append(name)
    noted: dict[str, ReadRows] = {}
    for table in [module for module in model.modules() if isinstance(module, nn.Embedding) and module.sparse]:
        [name, *others] = users[id(table.weight)]
        if others or not table.weight.requires_grad:
            table.sparse = False
        else:
            noted[name] = ReadRows(table)
    return noted
