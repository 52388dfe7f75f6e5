"""The dense gradients of a step on their way to the other ranks, in buckets, while the backward pass still computes.

A gradient is final when the last micro-batch of a rank has added to it. A bucket is sent as soon as all its gradients
are, so most are on their way when the backward pass ends. Ranks send the same buckets in the same order, whatever
happens: where a rank has no gradient of a parameter, or fails, it sends the number that changes no sum, and the others
hear of it afterwards.

Source: Li et al. 2020, https://arxiv.org/abs/2006.15704, section 3.2, which is PyTorch's DistributedDataParallel
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor

from nanotx.errors import ConfigError

BUCKET = 25 * 2**20
"""Bytes of gradients that are sent at once."""

NOTHING = -0.0
"""What a rank adds where it has no gradient: x + -0.0 is x to the bit for every x, and -0.0 + 0.0 is not -0.0."""


class Addition(ABC):
    """A vector that is being added over all ranks."""

    vector: Tensor

    @abstractmethod
    def advance(self) -> bool:
        """Wait for what is under way, and begin what comes after it; return whether nothing does: `vector` is the sum.

        Raises:
            RuntimeError: the connection to another rank is lost.
        """


class PairwiseSum(Addition):
    """Recursive doubling: add that of the next rank, then of the next two, of the next four, and so on.

    Both ranks of a pair add the same two numbers, so both have the same bits after each round; and what is added is
    what `tree_sum` adds in one process.
    """

    def __init__(self, vector: Tensor, rank: int, size: int) -> None:
        self.vector, self.rank, self.size, self.distance = vector, rank, size, 1
        self.exchange()

    def exchange(self) -> None:
        """Begin to send the vector to this round's partner, and to receive its own."""
        partner = self.rank ^ self.distance
        self.received = torch.empty_like(self.vector)
        works = [dist.P2POp(dist.isend, self.vector, partner), dist.P2POp(dist.irecv, self.received, partner)]
        self.works = dist.batch_isend_irecv(works)

    def advance(self) -> bool:
        for work in self.works:
            work.wait()
        self.vector += self.received
        del self.received
        self.distance *= 2
        if self.distance == self.size:
            return True
        self.exchange()
        return False


class BackendSum(Addition):
    """The backend's all-reduce, in an order that the backend and the number of ranks decide."""

    def __init__(self, vector: Tensor) -> None:
        self.vector = vector
        self.work = dist.all_reduce(vector, async_op=True)

    def advance(self) -> bool:
        self.work.wait()
        return True


def finish(additions: Iterable[Addition]) -> None:
    """Wait until all additions are done.

    Raises:
        RuntimeError: the connection to another rank is lost.
    """
    left = list(additions)
    while left:
        left = [addition for addition in left if not addition.advance()]


class Buckets:
    """Some dense gradients of a step; each bucket of them is sent when it is full."""

    def __init__(self, like: Sequence[Tensor], wanted: Sequence[bool], begin: Callable[[Tensor], Addition]) -> None:
        """Prepare to send; the last parameters come first, because the backward pass reaches them first.

        Args:
            like: the parameters.
            wanted: whose gradients are sent; the same on all ranks.
            begin: begins the addition of a vector.
        """
        self.like, self.begin = like, begin
        self.groups = list(grouped(like, [index for index in reversed(range(len(like))) if wanted[index]]))
        self.places = {index: number for number, group in enumerate(self.groups) for index in group}
        self.missing = [len(group) for group in self.groups]  # gradients of each bucket that are not there yet
        self.waiting: dict[int, Tensor] = {}  # gradients of buckets that are not full
        self.present: set[int] = set()  # those that this rank has
        self.additions: list[Addition] = []  # of the first buckets, in their order

    @contextmanager
    def filled(self, finished: Callable[[int, Tensor], Tensor]) -> Iterator[None]:
        """Context of a backward pass that fills the buckets.

        Args:
            finished: returns what is sent of a parameter, by its number and its gradient in this pass.
        """

        def take(index: int, parameter: Tensor) -> None:
            gradient, parameter.grad = parameter.grad, None
            assert gradient is not None
            if gradient.is_sparse:
                parameter.grad = gradient
            else:
                self.put(index, finished(index, gradient))

        with ExitStack() as hooks:
            for index in self.places:
                handle = self.like[index].register_post_accumulate_grad_hook(partial(take, index))
                hooks.callback(handle.remove)
            yield

    def put(self, index: int, gradient: Tensor) -> None:
        """Add a gradient, which is not this caller's any more, and send the buckets that are full.

        Raises:
            ConfigError: there is one of this parameter already.
        """
        if index in self.present:
            raise ConfigError(
                f"ranks: a parameter of shape {tuple(self.like[index].shape)} got its gradient in two pieces; a part "
                "that calls backward, or a checkpoint with use_reentrant=True, does that. Several processes cannot "
                "train it."
            )
        self.present.add(index)
        self.waiting[index] = gradient
        self.missing[self.places[index]] -= 1
        while len(self.additions) < len(self.groups) and not self.missing[len(self.additions)]:
            self.send_next()

    def send_next(self) -> None:
        """Send the next bucket as it is."""
        group = self.groups[len(self.additions)]
        parts = [(self.waiting.pop(index, None), self.like[index]) for index in group]
        vector = torch.cat(
            [(torch.full_like(like, NOTHING) if part is None else part).detach().flatten() for part, like in parts]
        )
        self.additions.append(self.begin(vector))

    def flush(self) -> None:
        """Send all buckets that are left, however full they are.

        Raises:
            RuntimeError: the connection to another rank is lost.
        """
        while len(self.additions) < len(self.groups):
            self.send_next()

    def sums(self) -> Iterator[tuple[int, Tensor]]:
        """Yield each parameter's number and the sum of its gradients, once all additions are done."""
        for group, addition in zip(self.groups, self.additions, strict=True):
            yield from pieces(addition.vector, self.like, group)


def grouped(like: Sequence[Tensor], order: Iterable[int]) -> Iterator[list[int]]:
    """Yield the numbers of tensors in groups of one dtype and device, and of about `BUCKET` bytes each."""
    group: list[int] = []
    size = 0
    for index in order:
        tensor = like[index]
        if group and (size + tensor.nbytes > BUCKET or not same_kind(tensor, like[group[0]])):
            yield group
            group, size = [], 0
        group.append(index)
        size += tensor.nbytes
    if group:
        yield group


def same_kind(first: Tensor, other: Tensor) -> bool:
    """Return whether two tensors can be sent as parts of one vector."""
    return first.dtype == other.dtype and first.device == other.device


def pieces(vector: Tensor, like: Sequence[Tensor], group: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
    """Yield the tensors of a vector that holds a group, with their numbers, laid out in memory as those of `like`."""
    sizes = [like[index].numel() for index in group]
    for index, piece in zip(group, vector.split(sizes), strict=True):
        shaped = piece.view(like[index].shape)
        yield index, shaped if like[index].is_contiguous() else torch.empty_like(like[index]).copy_(shaped)
