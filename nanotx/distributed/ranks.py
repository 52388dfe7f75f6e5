"""Processes that train together ("ranks"), and how they add what each has computed of a step.

Rank 0 leads: it alone has the run's folder and display, and orders the others to take each step. Within a step all
ranks do the same: each computes its micro-batches, all hear of each other's errors and signals, and all add their
gradients and losses. The sum has the same bits on every rank, so the optimizer's step has them too.
"""

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Literal, Protocol

import torch
import torch.distributed as dist
from einops import rearrange
from torch import Tensor
from torch.distributed import Store  # type: ignore[attr-defined]

from nanotx import errors
from nanotx.distributed.tree import Sum, add_rows, tree_sum
from nanotx.errors import NanotxError, RankLost, RunError, is_memory_full

Order = Literal["start", "step", "end"]
ORDERS: tuple[Order, ...] = ("start", "step", "end")

PATIENCE = timedelta(days=30)
"""How long the others wait for rank 0's next order: an evaluation, a sample or a save may take any time."""

BUCKET = 25 * 2**20
"""Bytes of gradients that are sent at once."""

ABSENT, DENSE, ROWS = 0, 1, 2
"""Kinds of a gradient: there is none, a tensor, or rows of a table."""


class Requests(Protocol):
    """What signals have asked for; `training.signals.Stop` is one."""

    signal: int
    save_requested: bool


class Ranks(ABC):
    """The processes that train together, as one of them sees them."""

    rank: int = 0  # the number of this process
    size: int = 1  # how many there are

    def share(self, micro_batches: int) -> range:
        """Return the numbers of the micro-batches that this rank computes: a subtree of their sum."""
        count = micro_batches // self.size
        return range(self.rank * count, (self.rank + 1) * count)

    @abstractmethod
    def order(self, order: Order) -> None:
        """Tell the other ranks what comes next; only rank 0 does."""

    @abstractmethod
    def sum(self, compute: Callable[[], Sum], parameters: Sequence[Tensor]) -> Sum:
        """Return the sum of what all ranks compute, the same on each.

        Args:
            compute: returns the sum over this rank's micro-batches.
            parameters: whose gradients are in it.

        Raises:
            NanotxError: another rank has failed; begins with its number.
            RankLost: another rank no longer answers.
        """


class Alone(Ranks):
    """One process, which trains by itself."""

    def order(self, order: Order) -> None:
        pass

    def sum(self, compute: Callable[[], Sum], parameters: Sequence[Tensor]) -> Sum:
        return compute()


class Group(Ranks):
    """Several processes, joined by `join.joined`."""

    def __init__(self, rank: int, size: int, store: Store, timeout: timedelta) -> None:
        """Take a place among processes whose default process group exists.

        Args:
            rank: the number of this one.
            size: how many there are.
            store: holds errors and progress of all ranks.
            timeout: how long a rank may take longer than another for its part of a step.
        """
        self.rank, self.size, self.store, self.timeout = rank, size, store, timeout
        self.requests: Requests | None = None  # of this process
        self.reduce: Literal["exact", "fast"] = "exact"
        self.failure: BaseException | None = None  # of this rank, which the others have not heard of yet
        self.agreed = False  # whether all ranks know that the last step has failed
        self.lost = False  # whether a rank no longer answers
        self.number = 0  # of meetings of all ranks up to now
        self.orders = dist.new_group(backend="gloo", timeout=PATIENCE)
        store.set(f"at/{rank}", "0")

    # Orders.

    def order(self, order: Order) -> None:
        if self.rank == 0 and not self.lost:
            with self.guarded():
                dist.broadcast(torch.tensor([ORDERS.index(order)]), src=0, group=self.orders)

    def next_order(self) -> Order:
        """Wait for rank 0's next order.

        Raises:
            RankLost: rank 0 has gone.
        """
        number = torch.zeros(1, dtype=torch.int64)
        with self.guarded():
            dist.broadcast(number, src=0, group=self.orders)
        self.agreed = False
        return ORDERS[int(number)]

    def send(self, data: bytes, tensors: Sequence[Tensor]) -> None:
        """Send bytes, and then tensors, from rank 0 to all others."""
        with self.guarded():
            dist.broadcast(torch.tensor([len(data)]), src=0, group=self.orders)
            dist.broadcast(torch.frombuffer(bytearray(data), dtype=torch.uint8), src=0, group=self.orders)
        self.meet(None)
        with self.guarded():
            for tensor in tensors:
                dist.broadcast(tensor.detach().cpu().contiguous(), src=0, group=self.orders)

    def receive(self, prepare: Callable[[bytes], list[Tensor]]) -> bool:
        """Receive what rank 0 sends; return whether all ranks could prepare for it.

        Args:
            prepare: returns tensors that are filled with those that come; what it raises, all ranks hear of.
        """
        size = torch.zeros(1, dtype=torch.int64)
        with self.guarded():
            dist.broadcast(size, src=0, group=self.orders)
            data = torch.empty(int(size), dtype=torch.uint8)
            dist.broadcast(data, src=0, group=self.orders)
        tensors: list[Tensor] = []
        try:
            tensors = prepare(bytes(data.numpy()))
        except Exception as error:
            self.failure = error
        try:
            self.meet(None)
        except RankLost:
            raise
        except Exception:  # all ranks know of it, and rank 0 reports it
            return False
        with self.guarded():
            for tensor in tensors:
                dist.broadcast(tensor, src=0, group=self.orders)
        return True

    # Agreement.

    def meet(self, error: BaseException | None, kinds: Sequence[int] = ()) -> Tensor:
        """Hear of the errors and signals of all ranks; return their `kinds`, a row for each rank.

        Raises:
            BaseException: the error itself, if there is one.
            NanotxError: another rank has an error.
            RankLost: another rank no longer answers.
        """
        error, self.failure = error or self.failure, None
        if error is not None:
            self.store.set(f"error/{self.rank}", json.dumps(described(error)))
        requests = self.requests
        signal, save = (requests.signal, requests.save_requested) if requests else (0, False)
        status = torch.tensor([error is not None, signal, save, *kinds], dtype=torch.int64)
        gathered = [torch.empty_like(status) for _ in range(self.size)]
        self.number += 1
        self.store.set(f"at/{self.rank}", str(self.number))
        with self.guarded():
            dist.all_gather(gathered, status)
        table = torch.stack(gathered)
        if requests:
            requests.signal = requests.signal or int(table[:, 1].max())
            requests.save_requested = requests.save_requested or bool(table[:, 2].any())
        if failed := table[:, 0].nonzero().flatten().tolist():
            self.agreed = True
            raise error or self.error_of(failed[0])
        return table[:, 3:]

    def error_of(self, rank: int) -> NanotxError:
        """Return the error that another rank has put down."""
        table = json.loads(self.store.get(f"error/{rank}"))
        kind = getattr(errors, table["kind"], RunError)
        return kind(f"rank {rank}: {table['message']}")

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Context that turns a failed connection into RankLost, which names the ranks that did not come."""
        try:
            yield
        except RuntimeError as error:
            self.lost = True
            raise self.describe_loss(error) from None

    def describe_loss(self, error: RuntimeError) -> RankLost:
        """Return the error that names the ranks which came to fewer meetings than this one."""
        time.sleep(0.2)  # those that are only a little later come meanwhile
        behind: list[int] = []
        with suppress(RuntimeError):  # the store may have gone too
            numbers = [int(self.store.get(f"at/{rank}")) for rank in range(self.size)]
            behind = [rank for rank, number in enumerate(numbers) if number < self.number]
        hangs = "timed out" in str(error).lower()
        names = f"rank{'s' * (len(behind) > 1)} {', '.join(map(str, behind))}" if behind else "another rank"
        how = f"did not answer within {self.timeout.total_seconds():g} s" if hangs else "closed the connection"
        reporter = min({*range(self.size)} - {*behind}, default=self.rank)
        return RankLost(
            f"{names} {how}, while rank {self.rank} waited; what was saved before is there. See what it printed last, "
            "and continue with --resume.",
            reporter,
        )

    # Sums.

    def sum(self, compute: Callable[[], Sum], parameters: Sequence[Tensor]) -> Sum:
        total, failed = Sum([None] * len(parameters), {}), None
        if self.failure is None:
            try:
                total = compute()
            except Exception as error:
                failed = error
        try:
            kinds = self.meet(failed, [kind_of(gradient) for gradient in total.gradients])
        finally:
            del failed  # it holds tensors of the step
        losses = torch.stack([loss.float() for loss in total.losses.values()])
        tensors: list[Tensor | None] = [losses, *total.gradients]
        kinds = torch.cat([torch.full((self.size, 1), DENSE), kinds], dim=1)
        with self.guarded():
            for index in kinds.amax(0).eq(ROWS).nonzero().flatten().tolist():
                present = kinds[:, index].eq(ROWS).tolist()
                tensors[index] = self.gather_rows(tensors[index], parameters[index - 1], present)
            add = self.add_exactly if self.reduce == "exact" else self.add_fast
            add(tensors, [losses, *parameters], kinds.eq(DENSE))
        summed, *gradients = tensors
        assert summed is not None
        return Sum(gradients, dict(zip(total.losses, summed.unbind(), strict=True)))

    def add_exactly(self, tensors: list[Tensor | None], like: Sequence[Tensor], present: Tensor) -> None:
        """Add dense tensors by recursive doubling: with the next rank, then the next two, the next four, and so on.

        Both ranks of a pair add the same two numbers, so both have the same bits after each round; and what is added
        is what `tree_sum` adds in one process. A tensor that one of them lacks is taken from the other as it is.

        Args:
            tensors: of this rank; replaced by the sums.
            like: tensors of their shapes.
            present: which of them each rank has, a row for each.
        """
        for level in range(self.size.bit_length() - 1):
            partner = self.rank ^ (1 << level)
            mine, theirs = (subtree(present, rank, level) for rank in (self.rank, partner))
            for bucket in buckets(like, [a or b for a, b in zip(mine, theirs, strict=True)]):
                sent = flat(tensors, like, bucket)
                received = torch.empty_like(sent)
                works = [dist.P2POp(dist.isend, sent, partner), dist.P2POp(dist.irecv, received, partner)]
                for work in dist.batch_isend_irecv(works):
                    work.wait()
                for index, piece in pieces(received, like, bucket):
                    own = tensors[index]
                    if theirs[index]:
                        tensors[index] = piece.clone() if own is None else own.add_(piece)

    def add_fast(self, tensors: list[Tensor | None], like: Sequence[Tensor], present: Tensor) -> None:
        """Add dense tensors by the backend's all-reduce, in an order that the backend and the number of ranks decide.

        Args:
            tensors: of this rank; replaced by the sums.
            like: tensors of their shapes.
            present: which of them each rank has, a row for each.
        """
        sums = []
        for bucket in buckets(like, present.any(0).tolist()):
            whole = flat(tensors, like, bucket)
            sums.append((bucket, whole, dist.all_reduce(whole, async_op=True)))
        for bucket, whole, work in sums:
            work.wait()
            for index, piece in pieces(whole, like, bucket):
                own = tensors[index]
                tensors[index] = piece.clone() if own is None else own.copy_(piece)

    def gather_rows(self, gradient: Tensor | None, table: Tensor, present: Sequence[bool]) -> Tensor:
        """Return the sum of all ranks' sparse gradients of a table: only their rows are sent.

        Args:
            gradient: of this rank, if it has one.
            table: the parameter.
            present: which ranks have a gradient.
        """
        if gradient is None:
            nowhere = torch.empty(0, dtype=torch.int64, device=table.device)
            gradient = sparse(nowhere, table.new_empty(0, *table.shape[1:]), table)
        gradient = gradient.coalesce()
        counts = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        dist.all_gather(counts, torch.tensor([gradient.indices().shape[1]]))
        most = int(torch.cat(counts).max())
        places = [gradient.indices().new_zeros(most) for _ in counts]
        values = [gradient.values().new_zeros(most, *table.shape[1:]) for _ in counts]
        dist.all_gather(places, padded(gradient.indices()[0], most))
        dist.all_gather(values, padded(gradient.values(), most))

        def of_rank(rank: int) -> Tensor | None:
            if not present[rank]:
                return None
            end = int(counts[rank])
            return sparse(places[rank][:end], values[rank][:end], table)

        def add(a: Tensor | None, b: Tensor | None) -> Tensor | None:
            return (b if a is None else a) if a is None or b is None else add_rows(a, b)

        total = tree_sum(range(self.size), of_rank, add)
        assert total is not None
        return total


def described(error: BaseException) -> dict[str, str]:
    """Return an error as the other ranks report it: the name of its class, and its message."""
    if is_memory_full(error):
        return {"kind": "MemoryFull", "message": f"memory is full: {error!s:.300}"}
    if isinstance(error, NanotxError):
        return {"kind": type(error).__name__, "message": str(error)}
    return {"kind": "RunError", "message": f"{type(error).__name__}: {error!s:.2000}"}


def kind_of(gradient: Tensor | None) -> int:
    """Return ABSENT, DENSE or ROWS."""
    return ABSENT if gradient is None else ROWS if gradient.is_sparse else DENSE


def subtree(present: Tensor, rank: int, level: int) -> list[bool]:
    """Return what is present in the subtree of a rank, that of the 2**level ranks whose sum it holds."""
    first = rank >> level << level
    return present[first : first + (1 << level)].any(0).tolist()


def buckets(like: Sequence[Tensor], wanted: Sequence[bool]) -> Iterator[list[int]]:
    """Yield the numbers of the wanted tensors in groups of one dtype and device, and of about `BUCKET` bytes each."""
    group: list[int] = []
    size = 0
    for index, tensor in enumerate(like):
        if not wanted[index]:
            continue
        if group and (size + tensor.nbytes > BUCKET or not same_kind(tensor, like[group[0]])):
            yield group
            group, size = [], 0
        group.append(index)
        size += tensor.nbytes
    if group:
        yield group


def same_kind(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors can be sent as one."""
    return one.dtype == other.dtype and one.device == other.device


def flat(tensors: Sequence[Tensor | None], like: Sequence[Tensor], bucket: Sequence[int]) -> Tensor:
    """Return the tensors of a bucket as one vector, with zeros in place of those that are absent."""
    own = [(tensors[index], like[index]) for index in bucket]
    return torch.cat([torch.zeros_like(shape).flatten() if part is None else part.flatten() for part, shape in own])


def pieces(vector: Tensor, like: Sequence[Tensor], bucket: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
    """Yield the tensors of a vector that `flat` made, with their numbers."""
    sizes = [like[index].numel() for index in bucket]
    for index, piece in zip(bucket, vector.split(sizes), strict=True):
        yield index, piece.view(like[index].shape)


def sparse(rows: Tensor, values: Tensor, table: Tensor) -> Tensor:
    """Return the sparse gradient of a table from the numbers of its rows, ascending, and their values."""
    return torch.sparse_coo_tensor(
        rearrange(rows, "n -> 1 n"), values, table.shape, is_coalesced=True, check_invariants=False
    )


def padded(tensor: Tensor, length: int) -> Tensor:
    """Return a tensor with zeros after its last row, up to a length."""
    return torch.cat([tensor, tensor.new_zeros(length - len(tensor), *tensor.shape[1:])])
