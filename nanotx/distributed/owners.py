"""The optimizer's state divided among ranks: each parameter has one owner, which alone steps it and keeps its state.

All ranks have the whole gradient, so an owner's step is that of one process, to the bit; it then sends the new weights
to the others. Only the state is divided: for AdamW that is half of what a process keeps between two steps.

Source: Rajbhandari et al. 2020, https://arxiv.org/abs/1910.02054, section 5.1, with whole tensors in place of
slices, as Muon needs whole matrices.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn

from nanotx.distributed.buckets import grouped
from nanotx.distributed.ranks import State


def divide(costs: Sequence[float], ranks: int) -> list[int]:
    """Return the owner of each parameter: the most expensive first, each to the rank that has least to do so far.

    Args:
        costs: of a step of each parameter, in any unit.
        ranks: how many there are.
    """
    work, owners = [0.0] * ranks, [0] * len(costs)
    for index in sorted(range(len(costs)), key=lambda index: -costs[index]):
        owners[index] = work.index(min(work))
        work[owners[index]] += costs[index]
    return owners


class Owners:
    """Which rank owns each parameter of an optimizer."""

    def __init__(
        self, optimizer: torch.optim.Optimizer, costs: dict[nn.Parameter, float], rank: int, size: int
    ) -> None:
        """Divide the parameters, and forget the state of those that other ranks own.

        Args:
            optimizer: with the state of all parameters, or with none.
            costs: of a step of each parameter.
            rank: of this process.
            size: the number of ranks.
        """
        self.optimizer, self.rank, self.size = optimizer, rank, size
        self.parameters = list(costs)
        self.owners = divide(list(costs.values()), size)
        self.forget()

    def forget(self) -> None:
        """Forget the state of parameters that other ranks own."""
        for parameter, owner in zip(self.parameters, self.owners, strict=True):
            if owner != self.rank:
                self.optimizer.state.pop(parameter, None)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Context in which only the parameters of this rank have gradients, so that the optimizer steps them alone."""
        others = [
            parameter for parameter, owner in zip(self.parameters, self.owners, strict=True) if owner != self.rank
        ]
        gradients = [parameter.grad for parameter in others]
        for parameter in others:
            parameter.grad = None
        try:
            yield
        finally:
            for parameter, gradient in zip(others, gradients, strict=True):
                parameter.grad = gradient

    @torch.no_grad()
    def share_weights(self) -> None:
        """Send the weights that this rank has stepped to the others, and receive theirs.

        Of a table with a sparse gradient only the rows of that gradient are sent: no others were stepped.

        Raises:
            RuntimeError: the connection to another rank is lost.
        """
        sent = []
        for owner in range(self.size):
            owned = [
                parameter
                for parameter, own in zip(self.parameters, self.owners, strict=True)
                if own == owner and parameter.grad is not None
            ]
            stepped = [Stepped(parameter) for parameter in owned]
            like = [item.weights for item in stepped]
            for group in grouped(like, range(len(like))):
                vector = torch.cat([like[index].flatten() for index in group])
                sent.append((vector, [stepped[index] for index in group], dist.broadcast(vector, owner, async_op=True)))
        for vector, items, work in sent:
            assert work is not None
            work.wait()
            for item, piece in zip(items, vector.split([item.weights.numel() for item in items]), strict=True):
                item.put(piece)

    # The whole state, for a checkpoint.

    def state(self) -> dict[tuple[int, str], Tensor]:
        """Return the state of this rank's parameters, by the number of the parameter and the key."""
        return {
            (index, key): value
            for index, (parameter, owner) in enumerate(zip(self.parameters, self.owners, strict=True))
            if owner == self.rank
            for key, value in self.optimizer.state.get(parameter, {}).items()
        }

    def put_state(self, state: dict[tuple[int, str], Tensor]) -> None:
        """Add another rank's state to that of the optimizer."""
        for (index, key), value in state.items():
            self.optimizer.state.setdefault(self.parameters[index], {})[key] = value


def send_state(state: dict[tuple[int, str], Tensor], send: Callable[[Tensor], None]) -> None:
    """Send a rank's state of the optimizer to rank 0."""
    table = [
        [index, key, str(value.dtype).removeprefix("torch."), list(value.shape)]
        for (index, key), value in state.items()
    ]
    data = torch.frombuffer(bytearray(json.dumps(table).encode()), dtype=torch.uint8)
    send(torch.tensor([len(data)]))
    send(data)
    for value in state.values():
        if value.numel():
            send(value.detach().cpu().contiguous())


Place = Callable[[int, str, Sequence[int], torch.dtype], Tensor]
"""Returns the tensor to fill with what is sent, from the number of the parameter, the key, the shape and the dtype."""


def receive_state(receive: Callable[[Tensor], None], place: Place | None = None) -> State:
    """Receive what another rank sends by `send_state`.

    Args:
        receive: fills a tensor with what comes next.
        place: returns where each tensor goes; None for a new tensor.
    """
    size = torch.zeros(1, dtype=torch.int64)
    receive(size)
    data = torch.empty(int(size), dtype=torch.uint8)
    receive(data)
    state: State = {}
    for index, key, dtype, shape in json.loads(bytes(data.numpy())):
        kind = getattr(torch, dtype)
        value = torch.empty(shape, dtype=kind) if place is None else place(index, key, shape, kind)
        if value.numel():
            receive(value)
        state[index, key] = value
    return state


class Stepped:
    """What a step has changed of a parameter: all of it, or the rows of its sparse gradient."""

    def __init__(self, parameter: Tensor) -> None:
        gradient = parameter.grad
        assert gradient is not None
        self.parameter = parameter
        self.rows = gradient.coalesce().indices()[0] if gradient.is_sparse else None
        self.weights = parameter.detach() if self.rows is None else parameter.detach()[self.rows]

    def put(self, weights: Tensor) -> None:
        """Set what the step has changed."""
        shaped = weights.view(self.weights.shape)
        if self.rows is None:
            self.parameter.detach().copy_(shaped)
        else:
            self.parameter.detach()[self.rows] = shaped
