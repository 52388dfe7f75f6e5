"""Processes that train together ("ranks"), as the trainer sees them: what they divide, and what they do together.

`group.py` has the ranks that are several; one process is `Alone`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from nanotx.distributed.tree import Sum, tree_sum

if TYPE_CHECKING:
    from nanotx.distributed.slices import Slices

Parallel = Literal["replicas", "owner", "fsdp"]
"""What ranks divide besides the micro-batches: nothing, the optimizer's state, or weights and gradients too."""

Order = Literal["start", "step", "evaluate", "calls", "state", "weights", "end"]
"""What rank 0 tells the others to do next."""

State = dict[tuple[int, str], Tensor]
"""The optimizer's state that a rank has, by the number of the parameter and the key."""

WEIGHT, AVERAGE, STATE = "weight", "average", "state/"
"""Keys of what ranks have in slices: of a parameter's weights and of their average, and the beginning of those of the
optimizer's state."""


def rows_of(length: int, rank: int, size: int) -> slice:
    """Return the rows that a rank has of a tensor in slices, by the rule of FSDP2.

    Args:
        length: the number of all rows.
        rank: which one.
        size: the number of ranks.
    """
    each = -(-length // size)
    return slice(min(rank * each, length), min((rank + 1) * each, length))


class Ranks(ABC):
    """The processes that train together, as one of them sees them."""

    rank: int = 0  # the number of this process
    size: int = 1  # how many there are
    parallel: Parallel = "replicas"  # what is divided among ranks
    exit_code: int = 0  # of rank 0, which the others leave with too

    @property
    def lost(self) -> bool:
        """Return whether a rank no longer answers."""
        return False

    @property
    def has_whole_state(self) -> bool:
        """Return whether rank 0 can still save a checkpoint: it cannot without a rank that owns a part of the state."""
        return not self.lost or self.parallel == "replicas"

    def share(self, micro_batches: int) -> range:
        """Return the numbers of the micro-batches that this rank computes: a subtree of their sum."""
        count = micro_batches // self.size
        return range(self.rank * count, (self.rank + 1) * count)

    @abstractmethod
    def order(self, order: Order) -> None:
        """Tell the other ranks what comes next; only rank 0 does."""

    @abstractmethod
    def step(self, parameters: Sequence[Tensor]) -> AbstractContextManager[None]:
        """Return the context of a step, which rank 0 orders; an error in it ends that step on all ranks.

        Args:
            parameters: whose gradients are summed in it.
        """

    @abstractmethod
    def sum(self, micro_batch: Callable[[int], Sum], count: int, parameters: Sequence[Tensor]) -> Sum:
        """Return the sum over all micro-batches of a step, each of which one rank computes; it is the same on all.

        Args:
            micro_batch: computes one, by its number.
            count: how many there are.
            parameters: whose gradients are summed.

        Raises:
            NanotxError: another rank has failed; begins with its number.
            RankLost: another rank no longer answers.
        """

    @abstractmethod
    def check(self) -> None:
        """Raise GivenUp where another rank has given up what all are doing; called within longer work."""

    @property
    def in_step(self) -> bool:
        """Return whether all ranks have to call the model equally often, since each call gathers its slices."""
        return False

    def between(self, act: Callable[[], None]) -> None:
        """Do something between two passes of longer work; raise what it raises, or as `check` does.

        Where ranks are in step, all raise if one does.
        """
        act()
        self.check()

    @abstractmethod
    def gather(self, compute: Callable[[], list[Any]]) -> list[list[Any]]:
        """Return what each rank computes, in their order.

        Args:
            compute: returns what JSON can hold; calls `check` now and then.

        Raises:
            BaseException: what `compute` raised.
            NanotxError: another rank has failed; begins with its number.
            RankLost: another rank no longer answers.
        """

    @abstractmethod
    def divide(self, optimizer: torch.optim.Optimizer, costs: dict[nn.Parameter, float]) -> None:
        """Divide what `parallel` says, before the first step.

        Args:
            optimizer: with all its state.
            costs: of a step of each parameter, in any unit.
        """

    @abstractmethod
    def update(self, step: Callable[[], object]) -> None:
        """Change the weights by the optimizer's step, on all ranks.

        Raises:
            NanotxError: another rank has failed; begins with its number.
            RankLost: another rank no longer answers.
        """

    @abstractmethod
    def whole_state(self) -> AbstractContextManager[None]:
        """Return a context in which the optimizer of rank 0 has the state of all parameters; only rank 0 enters it."""

    @abstractmethod
    def collect(self, state: State) -> list[State]:
        """Return the optimizer's state that each rank has, in their order; only rank 0 calls it.

        Args:
            state: that of this rank.

        Raises:
            RankLost: another rank no longer answers.
        """

    def slice(self, model: nn.Module, blocks: Iterable[nn.Module], device: torch.device) -> "Slices | None":
        """Slice a model before the first step; None where `parallel` keeps it whole.

        Args:
            model: whose methods `forward` and `hidden_states` compute from ids; its weights may have no memory yet.
            blocks: its modules that are gathered one after the other.
            device: of this process.
        """
        return None

    def collect_slices(self, with_optimizer: bool = True) -> State:
        """Return the whole of what ranks have in slices, on the CPU, by the number of the parameter and the key.

        There is nothing where `slice` returns None. Rank 0 alone calls it, and receives tensor by tensor; the others
        gather nothing.

        Args:
            with_optimizer: include the optimizer's state that is shaped like its parameter.

        Raises:
            RankLost: another rank no longer answers.
        """
        return {}

    def calls(self) -> AbstractContextManager[None]:
        """Return a context in which rank 0 can call the model in slices, and the others help to gather it each time.

        Rank 0 alone enters it. Where the model is whole, nobody else is needed.
        """
        return nullcontext()

    def own(self, tensor: Tensor) -> Tensor:
        """Return what this rank has of a parameter or gradient, in the same memory."""
        return tensor

    def norm(self, own: Tensor) -> Tensor:
        """Return the norm of all gradients, from that of what this rank has."""
        return own


class Alone(Ranks):
    """One process, which trains by itself."""

    def order(self, order: Order) -> None:
        pass

    def step(self, parameters: Sequence[Tensor]) -> AbstractContextManager[None]:
        return nullcontext()

    def sum(self, micro_batch: Callable[[int], Sum], count: int, parameters: Sequence[Tensor]) -> Sum:
        return tree_sum(range(count), micro_batch, Sum.add)

    def check(self) -> None:
        pass

    def gather(self, compute: Callable[[], list[Any]]) -> list[list[Any]]:
        return [compute()]

    def divide(self, optimizer: torch.optim.Optimizer, costs: dict[nn.Parameter, float]) -> None:
        pass

    def update(self, step: Callable[[], object]) -> None:
        step()

    def whole_state(self) -> AbstractContextManager[None]:
        return nullcontext()

    def collect(self, state: State) -> list[State]:
        return [state]
