"""The order in which micro-batches are summed: a fixed binary tree over their numbers, whoever computes them.

A sum of floating-point numbers depends on its order. Here the order is a function of the number of micro-batches
alone: an even number is halved, and of an odd number the last is added to the others. So 2, 4 or 8 processes that each
compute one subtree, and then add what they have in pairs, end with the same bits as one process that computes all.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from einops import rearrange
from torch import Tensor

T = TypeVar("T")


@dataclass
class Sum:
    """Gradients and losses, summed over some micro-batches."""

    gradients: list[Tensor | None]  # one for each parameter; None where no micro-batch has one
    losses: dict[str, Tensor]

    def add(self, other: "Sum") -> "Sum":
        """Add another sum to this one, in place, and return this one; their order does not change a bit."""
        ours: list[Tensor] = []
        theirs: list[Tensor] = []
        for index, (mine, new) in enumerate(zip(self.gradients, other.gradients, strict=True)):
            if mine is None or new is None:
                self.gradients[index] = new if mine is None else mine
            elif mine.is_sparse:
                self.gradients[index] = add_rows(mine, new)
            else:
                ours.append(mine)
                theirs.append(new)
        if ours:
            torch._foreach_add_(ours, theirs)
        self.losses = {name: loss + other.losses[name] for name, loss in self.losses.items()}
        return self


def add_rows(mine: Tensor, new: Tensor) -> Tensor:
    """Return the sum of two sparse gradients; the rows of each are summed before."""
    return (mine.coalesce() + new.coalesce()).coalesce()


def sparse(rows: Tensor, values: Tensor, table: Tensor) -> Tensor:
    """Return the sparse gradient of a table from the numbers of its rows, ascending, and their values."""
    return torch.sparse_coo_tensor(
        rearrange(rows, "n -> 1 n"), values, table.shape, is_coalesced=True, check_invariants=False
    )


def tree_sum(numbers: range, leaf: Callable[[int], T], add: Callable[[T, T], T]) -> T:
    """Return the sum of what `leaf` returns for some numbers, which are asked for in their order.

    Args:
        numbers: at least one; in a subtree, those of that subtree.
        leaf: computes what is summed.
        add: adds the second to the first; may change the first.
    """
    if len(numbers) == 1:
        return leaf(numbers[0])
    middle = middle_of(numbers)
    first = tree_sum(numbers[:middle], leaf, add)
    return add(first, tree_sum(numbers[middle:], leaf, add))


def middle_of(numbers: range) -> int:
    """Return where some numbers, at least two, are divided into two subtrees."""
    return len(numbers) // 2 if len(numbers) % 2 == 0 else len(numbers) - 1


def before_last(numbers: range) -> list[range]:
    """Return the subtrees to whose sums the last of some numbers is added, the greatest first.

    `tree_sum` of all is the sum of the first, and of the sum of the second and of what follows it, and so on.
    """
    subtrees: list[range] = []
    while len(numbers) > 1:
        middle = middle_of(numbers)
        subtrees.append(numbers[:middle])
        numbers = numbers[middle:]
    return subtrees
