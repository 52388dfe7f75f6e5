"""Processes that train together ("ranks"), and how they add what each has computed of a step.

Rank 0 leads: it alone has the run's folder and display, and orders the others to take each step. Within a step all
ranks do the same: each computes its micro-batches, all hear of each other's errors and signals, and all add their
gradients and losses. The sum has the same bits on every rank, so the optimizer's step has them too.
"""

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import torch
import torch.distributed as dist
from einops import rearrange
from torch import Tensor, nn
from torch.distributed import Store  # type: ignore[attr-defined]

from nanotx import errors
from nanotx.distributed.buckets import Addition, BackendSum, Buckets, PairwiseSum, finish
from nanotx.distributed.owners import Owners, receive_state, send_state
from nanotx.distributed.tree import Sum, add_rows, before_last, tree_sum
from nanotx.errors import NanotxError, RankLost, RunError, is_memory_full

if TYPE_CHECKING:
    from nanotx.distributed.slices import Slices

Parallel = Literal["replicas", "owner", "fsdp"]
"""What ranks divide besides the micro-batches: nothing, the optimizer's state, or weights and gradients too."""

Order = Literal["start", "step", "evaluate", "gather", "release", "state", "end"]
ORDERS: tuple[Order, ...] = get_args(Order)

PATIENCE = timedelta(days=30)
"""How long the others wait for rank 0's next order: an evaluation, a sample or a save may take any time."""

ABSENT, DENSE, ROWS = 0, 1, 2
"""Kinds of a gradient: there is none, a tensor, or rows of a table."""


class Requests(Protocol):
    """What signals have asked for; `training.signals.Stop` is one."""

    signal: int
    save_requested: bool


class GivenUp(Exception):
    """Another rank has given up what all do together; when they meet, all hear why."""


class Ranks(ABC):
    """The processes that train together, as one of them sees them."""

    rank: int = 0  # the number of this process
    size: int = 1  # how many there are
    lost: bool = False  # whether a rank no longer answers
    parallel: Parallel = "replicas"  # what is divided among ranks

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

    def slice(self, model: nn.Module, blocks: Iterable[nn.Module]) -> "Slices":
        """Slice a model that is whole on all ranks, before the first step.

        Args:
            model: whose methods `forward` and `hidden_states` compute from ids.
            blocks: its modules that are gathered one after the other.
        """
        raise NotImplementedError

    def sliced_state(self) -> dict[str, dict[str, Tensor]]:
        """Return the whole state of a sliced optimizer, by parameter and key; only rank 0 does."""
        raise NotImplementedError

    def whole(self) -> AbstractContextManager[None]:
        """Return a context in which the model of each rank is whole; rank 0 enters it, and orders the others to."""
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
        self.number = 0  # of meetings of all ranks up to now
        self.dense: list[bool] = []  # whose gradients the last step sent as dense ones, the same on all ranks
        self.owners: Owners | None = None  # of the optimizer's state, where it is divided
        self.slices: Slices | None = None  # of the model, where it is sliced
        self.entered = 0  # contexts in which the model is whole
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
        self.arrive()
        return self.hear(error, kinds)

    def arrive(self) -> None:
        """Note that this rank has come to a meeting; a rank that has not is named where one is lost."""
        self.number += 1
        self.store.set(f"at/{self.rank}", str(self.number))

    def hear(self, error: BaseException | None, kinds: Sequence[int] = ()) -> Tensor:
        """Hear of all ranks as `meet` does, after this one has arrived."""
        error, self.failure = error or self.failure, None
        if error is not None:
            self.store.set(f"error/{self.rank}", json.dumps(described(error)))
        requests = self.requests
        signal, save = (requests.signal, requests.save_requested) if requests else (0, False)
        status = torch.tensor([error is not None, signal, save, *kinds], dtype=torch.int64)
        gathered = [torch.empty_like(status) for _ in range(self.size)]
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

    # Longer work that all share.

    def check(self) -> None:
        if self.store.check([f"given up/{self.number}"]):
            raise GivenUp

    def gather(self, compute: Callable[[], list[Any]]) -> list[list[Any]]:
        items, failed = list[Any](), None
        if self.failure is None:
            try:
                items = compute()
            except GivenUp:
                pass  # of the rank that has, the reason is heard when they meet
            except BaseException as error:
                self.store.set(f"given up/{self.number}", "")
                failed = error
        self.meet(failed)
        own = torch.frombuffer(bytearray(json.dumps(items).encode()), dtype=torch.uint8)
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        with self.guarded():
            dist.all_gather(sizes, torch.tensor([len(own)]))
            most = int(torch.cat(sizes).max())
            texts = [torch.zeros(most, dtype=torch.uint8) for _ in sizes]
            dist.all_gather(texts, padded(own, most))
        return [json.loads(bytes(text[: int(size)].numpy())) for text, size in zip(texts, sizes, strict=True)]

    # The optimizer's state.

    def divide(self, optimizer: torch.optim.Optimizer, costs: dict[nn.Parameter, float]) -> None:
        self.dense = []
        self.owners = Owners(optimizer, costs, self.rank, self.size) if self.parallel == "owner" else None

    def update(self, step: Callable[[], object]) -> None:
        if self.owners is None:
            if self.slices is None:
                step()
            else:
                self.slices.step(step)
            return
        failed = None
        try:
            with self.owners.alone():
                step()
        except Exception as error:
            failed = error
        self.meet(failed)
        with self.guarded():
            self.owners.share_weights()

    @contextmanager
    def whole_state(self) -> Iterator[None]:
        if self.owners is None:
            yield
            return
        self.order("state")
        try:
            with self.guarded():
                for rank in range(1, self.size):
                    self.owners.put_state(receive_state(partial(self.receive_tensor, rank)))
            yield
        finally:
            self.owners.forget()

    def receive_tensor(self, rank: int, tensor: Tensor) -> None:
        """Receive a tensor that a rank sends to rank 0."""
        dist.recv(tensor, rank, group=self.orders)

    def send_state(self) -> None:
        """Send the state of what this rank owns to rank 0, which has ordered it.

        Raises:
            RankLost: rank 0 has gone.
        """
        if divided := self.owners or self.slices:
            with self.guarded():
                send_state(divided.state(), lambda tensor: dist.send(tensor, 0, group=self.orders))

    # A sliced model.

    def slice(self, model: nn.Module, blocks: Iterable[nn.Module]) -> "Slices":
        from nanotx.distributed.slices import Slices  # its libraries take seconds to import

        self.slices = Slices(model, blocks, self.rank, self.size)
        return self.slices

    def sliced_state(self) -> dict[str, dict[str, Tensor]]:
        assert self.slices is not None
        self.order("state")
        states = [self.slices.state()]
        with self.guarded():
            states += [receive_state(partial(self.receive_tensor, rank)) for rank in range(1, self.size)]
        return self.slices.joined(states)

    @contextmanager
    def whole(self) -> Iterator[None]:
        if self.slices is None or self.rank:
            yield
            return
        self.entered += 1
        try:
            if self.entered == 1:
                self.order("gather")
                with self.guarded():
                    self.slices.gather()
            yield
        finally:
            self.entered -= 1
            if not self.entered and not self.lost:
                self.order("release")
                self.slices.release()

    def follow_slices(self, order: Order) -> None:
        """Let the model be whole, or not any more, as rank 0 has ordered."""
        if self.slices is not None:
            with self.guarded():
                self.slices.gather() if order == "gather" else self.slices.release()

    def own(self, tensor: Tensor) -> Tensor:
        return tensor if self.slices is None else self.slices.local(tensor)

    def norm(self, own: Tensor) -> Tensor:
        if self.slices is None:
            return own
        square = own**2
        with self.guarded():
            dist.all_reduce(square)
        return square.sqrt()

    def sliced_sum(self, micro_batch: Callable[[int], Sum], count: int) -> Sum:
        """Return the sum over all micro-batches of a sliced model, whose gradients are summed as they are computed."""
        assert self.slices is not None
        self.slices.clear_gradients()
        total, failed = Sum([], {}), None
        if self.failure is None:
            try:
                total = tree_sum(self.share(count), micro_batch, Sum.add)
            except Exception as error:
                failed = error
        try:
            self.meet(failed)
        finally:
            del failed
        with self.guarded():
            losses = self.begin(torch.stack([loss.float() for loss in total.losses.values()]))
            finish([losses])
        return Sum(total.gradients, dict(zip(total.losses, losses.vector.unbind(), strict=True)))

    # Sums.

    def sum(self, micro_batch: Callable[[int], Sum], count: int, parameters: Sequence[Tensor]) -> Sum:
        if self.slices is not None:
            return self.sliced_sum(micro_batch, count)
        early = Buckets(parameters, self.dense or [False] * len(parameters), self.begin)  # the first step tells which
        total, failed = Sum([None] * len(parameters), {}), None
        if self.failure is None:
            try:
                total = self.compute(micro_batch, self.share(count), early)
            except Exception as error:
                failed = error
        self.arrive()
        with self.guarded():
            early.flush()
        kinds = [DENSE if index in early.present else kind_of(part) for index, part in enumerate(total.gradients)]
        try:
            table = self.hear(failed, kinds)
        except RankLost:
            raise
        except BaseException:
            with self.guarded():
                finish(early.additions)  # the other ranks wait for them
            raise
        finally:
            del failed  # it holds tensors of the step
        return self.reduced(total, early, table, parameters)

    def fail(self, parameters: Sequence[Tensor]) -> None:
        """Take part in the sum of a step to which this rank can add nothing; all ranks hear of its error.

        Raises:
            RankLost: another rank no longer answers.
        """

        def nothing(number: int) -> Sum:
            raise self.failure or RunError("it has no state to begin with.")

        try:
            self.sum(nothing, self.size, parameters)
        except RankLost:
            raise
        except Exception:  # rank 0 reports it
            return

    def compute(self, micro_batch: Callable[[int], Sum], share: range, early: Buckets) -> Sum:
        """Return the sum over this rank's micro-batches, without the gradients that it puts into buckets."""
        before = [tree_sum(numbers, micro_batch, Sum.add) for numbers in before_last(share)]

        def finished(index: int, gradient: Tensor) -> Tensor:
            for earlier in reversed(before):
                own, earlier.gradients[index] = earlier.gradients[index], None
                gradient = gradient if own is None else own.add_(gradient)
            return gradient

        with early.filled(finished):
            total = micro_batch(share[-1])
        for earlier in reversed(before):
            total = earlier.add(total)
        for index in early.places:  # of which the last micro-batch had none
            gradient = total.gradients[index]
            if gradient is not None and not gradient.is_sparse:
                early.put(index, gradient)
                total.gradients[index] = None
        return total

    def reduced(self, total: Sum, early: Buckets, kinds: Tensor, parameters: Sequence[Tensor]) -> Sum:
        """Return the sum over all ranks.

        Args:
            total: that of this rank, without what is in buckets.
            early: the buckets that are on their way.
            kinds: of the gradients, a row for each rank.
            parameters: whose gradients these are.
        """
        dense, rows = kinds.eq(DENSE).any(0).tolist(), kinds.eq(ROWS).any(0).tolist()
        self.dense = [some and not sparse for some, sparse in zip(dense, rows, strict=True)]
        late = Buckets(
            parameters, [some and index not in early.places for index, some in enumerate(self.dense)], self.begin
        )
        gradients: list[Tensor | None] = [None] * len(parameters)
        with self.guarded():
            for index in (index for index, sparse in enumerate(rows) if sparse):
                present = kinds[:, index].eq(ROWS).tolist()
                gradients[index] = self.gather_rows(total.gradients[index], parameters[index], present)
            for index in late.places:
                if (gradient := total.gradients[index]) is not None:
                    late.put(index, gradient)
            late.flush()
            losses = self.begin(torch.stack([loss.float() for loss in total.losses.values()]))
            finish([*early.additions, *late.additions, losses])
        for index, gradient in (*early.sums(), *late.sums()):
            gradients[index] = gradient if self.dense[index] else gradients[index]
        return Sum(gradients, dict(zip(total.losses, losses.vector.unbind(), strict=True)))

    def begin(self, vector: Tensor) -> Addition:
        """Begin to add a vector over all ranks."""
        return PairwiseSum(vector, self.rank, self.size) if self.reduce == "exact" else BackendSum(vector)

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


def sparse(rows: Tensor, values: Tensor, table: Tensor) -> Tensor:
    """Return the sparse gradient of a table from the numbers of its rows, ascending, and their values."""
    return torch.sparse_coo_tensor(
        rearrange(rows, "n -> 1 n"), values, table.shape, is_coalesced=True, check_invariants=False
    )


def padded(tensor: Tensor, length: int) -> Tensor:
    """Return a tensor with zeros after its last row, up to a length."""
    return torch.cat([tensor, tensor.new_zeros(length - len(tensor), *tensor.shape[1:])])
