"""Several processes that train together: what rank 0 orders, and how they add what each has computed of a step.

Rank 0 leads: it alone has the run's folder and display, and orders the others to take each step. Within a step all
ranks do the same: each computes its micro-batches, all hear of each other's errors and signals, and all add their
gradients and losses. The sum has the same bits on every rank, so the optimizer's step has them too.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
import torch.distributed as dist
from torch import Tensor, nn

from nanotx.distributed.agreement import LEAVING, Agreement, GivenUp
from nanotx.distributed.buckets import Addition, BackendSum, Buckets, PairwiseSum, finish
from nanotx.distributed.owners import Owners, receive_state, send_state
from nanotx.distributed.ranks import Order, Ranks, State, rows_of
from nanotx.distributed.tree import Sum, add_rows, before_last, sparse, tree_sum
from nanotx.errors import RankLost

if TYPE_CHECKING:
    from nanotx.distributed.slices import Slices

ORDERS: tuple[Order, ...] = get_args(Order)

PATIENCE = timedelta(days=30)
"""How long the others wait for rank 0's next order: an evaluation, a sample or a save may take any time."""

Sent = tuple[Tensor, bool]
"""A tensor that rank 0 sends, and whether each other rank gets its slice of it alone."""

ABSENT, DENSE, ROWS = 0, 1, 2
"""Kinds of a gradient: there is none, a tensor, or rows of a table."""


class Group(Ranks):
    """Several processes, joined by `join.joined`."""

    def __init__(self, agreement: Agreement) -> None:
        """Take a place among processes whose default process group exists, with what this one knows of them."""
        self.agreement, self.rank, self.size = agreement, agreement.rank, agreement.size
        self.reduce: Literal["exact", "fast"] = "exact"
        self.dense: list[bool] = []  # whose gradients the last step sent as dense ones, the same on all ranks
        self.owners: Owners | None = None  # of the optimizer's state, where it is divided
        self.slices: Slices | None = None  # of the model, where it is sliced
        self.orders = dist.new_group(backend="gloo", timeout=PATIENCE)

    @property
    def lost(self) -> bool:
        return self.agreement.lost

    # Orders.

    def order(self, order: Order) -> None:
        if self.rank == 0 and not self.lost:
            self.agreement.agreed = False
            with self.agreement.together():
                dist.broadcast(torch.tensor([ORDERS.index(order), self.exit_code]), src=0, group=self.orders)

    def next_order(self) -> Order:
        """Wait for rank 0's next order.

        Raises:
            RankLost: rank 0 has gone.
        """
        numbers = torch.zeros(2, dtype=torch.int64)
        with self.agreement.together():
            dist.broadcast(numbers, src=0, group=self.orders)
        self.agreement.agreed = False
        index, self.exit_code = numbers.tolist()
        return ORDERS[index]

    def wait_for_exit(self) -> None:
        """Wait until the process of rank 0, which has ordered the end, has ended, but no longer than `LEAVING`.

        A launcher ends the other processes of its machine once one has failed, and rank 0 has an error to report.
        """
        self.agreement.left.set()  # the store ends with rank 0, and PyTorch prints where it is asked then
        with suppress(RuntimeError):  # the connection is closed
            nothing = dist.irecv(torch.zeros(1), 0, group=self.orders)
            assert nothing is not None
            nothing.wait(timedelta(seconds=LEAVING))

    def send(self, data: bytes, tensors: Iterable[Sent]) -> None:
        """Send bytes, and then tensors one by one, from rank 0 to all others."""
        with self.agreement.together():
            dist.broadcast(torch.tensor([len(data)]), src=0, group=self.orders)
            dist.broadcast(torch.frombuffer(bytearray(data), dtype=torch.uint8), src=0, group=self.orders)
        self.agreement.meet(None)
        with self.agreement.together():
            for tensor, sliced in tensors:
                if not sliced:
                    dist.broadcast(tensor.detach().cpu().contiguous(), src=0, group=self.orders)
                    continue
                for rank in range(1, self.size):
                    rows = tensor.detach()[rows_of(len(tensor), rank, self.size)]
                    if rows.numel():
                        dist.send(rows.cpu().contiguous(), rank, group=self.orders)

    def receive(self, prepare: Callable[[bytes], Iterable[Sent]]) -> bool:
        """Receive what rank 0 sends; return whether all ranks could prepare for it.

        Args:
            prepare: returns tensors on the CPU, or slices, each of which is filled with what comes before the next one
                is asked for; what it raises, all ranks hear of.
        """
        size = torch.zeros(1, dtype=torch.int64)
        with self.agreement.together():
            dist.broadcast(size, src=0, group=self.orders)
            data = torch.empty(int(size), dtype=torch.uint8)
            dist.broadcast(data, src=0, group=self.orders)
        tensors: Iterable[Sent] = []
        try:
            tensors = prepare(bytes(data.numpy()))
        except Exception as error:
            self.agreement.failure = self.agreement.failure or error
        try:
            self.agreement.meet(None)
        except RankLost:
            raise
        except Exception:  # all ranks know of it, and rank 0 reports it
            return False
        with self.agreement.together():
            for tensor, sliced in tensors:
                if not sliced:
                    dist.broadcast(tensor, src=0, group=self.orders)
                elif tensor.numel():
                    dist.recv(tensor, 0, group=self.orders)
        return True

    # A step.

    @contextmanager
    def step(self, parameters: Sequence[Tensor]) -> Iterator[None]:
        self.order("step")
        met = self.agreement.number
        with self.agreement.together():
            try:
                yield
            except Exception as error:
                if self.agreement.number == met and self.parallel != "fsdp" and not self.lost:
                    self.fail(error, parameters)
                raise

    def fail(self, error: Exception, parameters: Sequence[Tensor]) -> None:
        """Take part in the sum of a step to which this rank can add nothing; all ranks hear of its error.

        Raises:
            Exception: the error.
            RankLost: another rank no longer answers.
        """

        def nothing(early: Buckets) -> Sum:
            raise error

        self.exchange(nothing, parameters)

    # Longer work that all share.

    @property
    def in_step(self) -> bool:
        return self.slices is not None

    def check(self) -> None:
        self.agreement.check()

    def between(self, act: Callable[[], None]) -> None:
        if self.slices is None:
            act()
            self.check()
            return
        failed = None
        try:
            act()
        except BaseException as error:  # such as Interrupted: no other rank may wait for this one's slices
            failed = error
        self.agreement.meet(failed)

    def gather(self, compute: Callable[[], list[Any]]) -> list[list[Any]]:
        items, failed = list[Any](), None
        if self.slices is not None:
            return self.gather_items(self.compute_in_step(self.slices, compute))
        try:
            if self.agreement.failure is not None:
                raise self.agreement.failure
            items = compute()
        except GivenUp:
            pass  # of the rank that has, the reason is heard when they meet
        except BaseException as error:
            self.agreement.give_up()
            failed = error
        self.agreement.meet(failed)
        return self.gather_items(items)

    def compute_in_step(self, slices: "Slices", compute: Callable[[], list[Any]]) -> list[Any]:
        """Return what this rank computes while all call the model equally often, and gather its slices each time."""
        try:
            with self.agreement.together():
                return compute()
        finally:
            if not self.lost:
                slices.release()

    def gather_items(self, items: list[Any]) -> list[list[Any]]:
        """Return what JSON can hold from all ranks, in their order."""
        own = torch.frombuffer(bytearray(json.dumps(items).encode()), dtype=torch.uint8)
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        with self.agreement.together():
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
        self.agreement.meet(failed)
        with self.agreement.together():
            self.owners.share_weights()

    @contextmanager
    def whole_state(self) -> Iterator[None]:
        if self.owners is None:
            yield
            return
        try:
            for state in self.collect({})[1:]:
                self.owners.put_state(state)
            yield
        finally:
            self.owners.forget()

    def collect(self, state: State) -> list[State]:
        self.order("state")
        with self.agreement.together():
            others = [receive_state(partial(self.receive_tensor, rank)) for rank in range(1, self.size)]
        return [state, *others]

    def receive_tensor(self, rank: int, tensor: Tensor) -> None:
        """Receive a tensor that a rank sends to rank 0."""
        dist.recv(tensor, rank, group=self.orders)

    def send_state(self, with_optimizer: bool = True) -> None:
        """Send the state of what this rank has to rank 0, which has ordered it.

        Args:
            with_optimizer: of a model in slices, send more than the weights.

        Raises:
            RankLost: rank 0 has gone.
        """

        def send(tensor: Tensor) -> None:
            dist.send(tensor, 0, group=self.orders)

        if self.slices is not None:
            with self.agreement.together():
                send_state(self.slices.state(with_optimizer), send)
        elif self.owners is not None:
            with self.agreement.together():
                send_state(self.owners.state(), send)

    # A sliced model.

    def slice(self, model: nn.Module, blocks: Iterable[nn.Module], device: torch.device) -> "Slices | None":
        if self.parallel != "fsdp":
            return None
        from nanotx.distributed.slices import Slices  # its libraries take seconds to import

        self.slices = Slices(model, blocks, self.rank, self.size, device)
        return self.slices

    def collect_slices(self, with_optimizer: bool = True) -> State:
        assert self.slices is not None
        self.order("state" if with_optimizer else "weights")
        tensors = self.slices.whole(self.slices.state(with_optimizer))
        with self.agreement.together():
            for rank in range(1, self.size):

                def place(index: int, key: str, shape: Sequence[int], dtype: torch.dtype, rank: int = rank) -> Tensor:
                    tensor = tensors[index, key]
                    rows = tensor[rows_of(len(tensor), rank, self.size)]
                    assert (list(rows.shape), rows.dtype) == (list(shape), dtype)
                    return rows

                receive_state(partial(self.receive_tensor, rank), place)
        return tensors

    @contextmanager
    def calls(self) -> Iterator[None]:
        assert self.slices is not None
        self.order("calls")
        waiting = True  # whether the others wait to hear of the next call

        @contextmanager
        def call() -> Iterator[None]:
            nonlocal waiting
            waiting = False
            with self.agreement.together():
                dist.broadcast(torch.tensor([1]), src=0, group=self.orders)
                try:
                    yield
                except Exception:
                    raise
                except BaseException as error:  # such as a second Ctrl-C: the others wait for this rank's slices
                    self.agreement.put_down(error)
                    raise
            waiting = True

        try:
            with self.slices.each_call(call):
                yield
        finally:
            if waiting:
                with self.agreement.together():
                    dist.broadcast(torch.tensor([0]), src=0, group=self.orders)
                self.slices.release()

    def answer_calls(self) -> None:
        """Call the model in slices as often as rank 0 does, which has ordered it, so that its slices are gathered."""
        assert self.slices is not None
        more = torch.tensor([0])
        with self.agreement.together():
            while True:
                dist.broadcast(more, src=0, group=self.orders)
                if not more:
                    break
                self.slices.call()
        self.slices.release()

    def own(self, tensor: Tensor) -> Tensor:
        return tensor if self.slices is None else self.slices.local(tensor)

    def norm(self, own: Tensor) -> Tensor:
        if self.slices is None:
            return own
        square = own**2
        with self.agreement.together():
            dist.all_reduce(square)
        return square.sqrt()

    def sliced_sum(self, micro_batch: Callable[[int], Sum], count: int) -> Sum:
        """Return the sum over all micro-batches of a sliced model, whose gradients are summed as they are computed."""
        assert self.slices is not None
        self.slices.clear_gradients()
        with self.agreement.together():
            total = tree_sum(self.share(count), micro_batch, Sum.add)
        self.agreement.meet(None)
        with self.agreement.together():
            losses = self.begin(torch.stack([loss.float() for loss in total.losses.values()]))
            finish([losses])
        return Sum(total.gradients, dict(zip(total.losses, losses.vector.unbind(), strict=True)))

    # Sums.

    def sum(self, micro_batch: Callable[[int], Sum], count: int, parameters: Sequence[Tensor]) -> Sum:
        if self.slices is not None:
            return self.sliced_sum(micro_batch, count)
        return self.exchange(lambda early: self.compute(micro_batch, self.share(count), early), parameters)

    def exchange(self, compute: Callable[[Buckets], Sum], parameters: Sequence[Tensor]) -> Sum:
        """Return the sum over all ranks of what each computes.

        Args:
            compute: returns what this rank adds, without the gradients that it has put into buckets.
            parameters: whose gradients are summed.
        """
        early = Buckets(parameters, self.dense or [False] * len(parameters), self.begin)  # the first step tells which
        total, failed = Sum([None] * len(parameters), {}), None
        try:
            total = compute(early)
        except GivenUp:
            pass  # of the rank that has, the reason is heard when they meet
        except Exception as error:
            self.agreement.give_up()
            failed = error
        self.agreement.arrive()
        with self.agreement.together():
            early.flush()
        kinds = [DENSE if index in early.present else kind_of(part) for index, part in enumerate(total.gradients)]
        try:
            table = self.agreement.hear(failed, kinds)
        except RankLost:
            raise
        except BaseException:
            with self.agreement.together():
                finish(early.additions)  # the other ranks wait for them
            raise
        finally:
            del failed  # it holds tensors of the step
        return self.reduced(total, early, table, parameters)

    def compute(self, micro_batch: Callable[[int], Sum], share: range, early: Buckets) -> Sum:
        """Return the sum over this rank's micro-batches, without the gradients that it puts into buckets."""

        def checked(number: int) -> Sum:
            self.check()
            return micro_batch(number)

        before = [tree_sum(numbers, checked, Sum.add) for numbers in before_last(share)]

        def finished(index: int, gradient: Tensor) -> Tensor:
            for earlier in reversed(before):
                own, earlier.gradients[index] = earlier.gradients[index], None
                gradient = gradient if own is None else own.add_(gradient)
            return gradient

        with early.filled(finished):
            total = checked(share[-1])
        for earlier in reversed(before):
            total = earlier.add(total)
        for index in early.places:  # of which the last micro-batch had none
            gradient = total.gradients[index]
            if gradient is not None and not gradient.is_sparse:
                early.put(index, gradient)
                total.gradients[index] = None
        return total

    def reduced(self, total: Sum, early: Buckets, kinds: list[list[int]], parameters: Sequence[Tensor]) -> Sum:
        """Return the sum over all ranks.

        Args:
            total: that of this rank, without what is in buckets.
            early: the buckets that are on their way.
            kinds: of the gradients, a row for each rank.
            parameters: whose gradients these are.
        """
        dense, rows = ([kind in column for column in zip(*kinds, strict=True)] for kind in (DENSE, ROWS))
        self.dense = [some and not sparse for some, sparse in zip(dense, rows, strict=True)]
        late = Buckets(
            parameters, [some and index not in early.places for index, some in enumerate(self.dense)], self.begin
        )
        gradients: list[Tensor | None] = [None] * len(parameters)
        with self.agreement.together():
            for index in (index for index, sparse in enumerate(rows) if sparse):
                present = [of_rank[index] == ROWS for of_rank in kinds]
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


def kind_of(gradient: Tensor | None) -> int:
    """Return ABSENT, DENSE or ROWS."""
    return ABSENT if gradient is None else ROWS if gradient.is_sparse else DENSE


def padded(tensor: Tensor, length: int) -> Tensor:
    """Return a tensor with zeros after its last row, up to a length."""
    return torch.cat([tensor, tensor.new_zeros(length - len(tensor), *tensor.shape[1:])])
