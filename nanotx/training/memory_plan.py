"""The memory of a training step by kind, computed without allocating it.

A step of the recipe runs on tensors that have a shape and no data (PyTorch's FakeTensor), and the bytes that are alive
are counted at every operation. So the plan follows any part, any optimizer and any order of operations, and is that of
one step on a CPU, whose attention keeps no weights for the backward pass, as those of GPUs do.

Of several GPUs it is a step of rank 0 of as many ranks, of which the others are not there
(`distributed/simulated.py`), with the buffers by which they send. Rank 0 has the most rows of what is in slices; where
the optimizer's state has owners, that of the rank with most of it is counted.

Tensors of the recipe's own device need none of it; what an allocator keeps beside them is not counted.
"""

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nanotx.data.batches import Windows
from nanotx.distributed import check_parallel, divide, tree_sum
from nanotx.distributed.simulated import SimulatedAlone, SimulatedGroup, simulated_ranks
from nanotx.errors import ConfigError
from nanotx.hardware.device import Machine
from nanotx.nn.empty import empty_weights
from nanotx.nn.transformer import Transformer
from nanotx.recipe import Recipe
from nanotx.training.live_tensors import LiveTensors, Memory
from nanotx.training.trainer import Trainer, check_rows, clip

WRAPPERS = ("replicas", "owner", "fsdp")
MOST_WINDOWS = 2**40
"""No micro-batch is as large."""

TRIES, NEAR = 4, 0.1
"""How often a micro-batch is looked for that fills a device, and the fraction by which it may miss."""

MOST_PLANNED, MOST_CHUNKS = 2**16, 64
"""Windows, and chunks of a loss, of the largest micro-batch of which a step is taken; of more the line goes on."""

HEADROOM = 0.1
"""Fraction of a device's memory that is left to its libraries and to gaps between tensors."""


@dataclass(frozen=True, kw_only=True)
class StepMemory:
    """Bytes of a process at the fullest moments of a step, planned for micro-batches of two sizes."""

    windows: int  # of the recipe's micro-batches
    backward: Memory  # while gradients are computed with these
    other_windows: int  # of micro-batches that fill a device, as far as the others show it
    other_backward: Memory
    update: Memory  # after that, while gradients are clipped and the optimizer steps

    @property
    def memory(self) -> Memory:
        """Return the bytes at the fullest moment, with the recipe's micro-batches."""
        return max((self.backward, self.update), key=lambda memory: memory.total)

    def total(self, windows: int) -> int:
        """Return the bytes at the fullest moment with micro-batches of some windows, on a line through both sizes.

        The line is exact at both. Between them it lies above what a step takes, for another moment of a step may be the
        fullest with more windows, and none adds less then.
        """
        slope = (self.other_backward.total - self.backward.total) / (self.other_windows - self.windows)
        return max(round(self.backward.total + slope * (windows - self.windows)), self.update.total)

    def most_windows(self, memory: float) -> int:
        """Return the largest micro-batch whose step fits into a device's memory with `HEADROOM`; 0 if none does."""
        return bisect_right(range(1, MOST_WINDOWS), memory * (1 - HEADROOM), key=self.total)


@dataclass(frozen=True, kw_only=True)
class StepPlan:
    """What a step of a recipe takes, on one of some ranks."""

    parameters: int
    flops_per_token: int  # forward and backward
    wrappers: dict[str, StepMemory]  # of the fullest rank
    refused: dict[str, str]  # the wrappers that cannot divide the recipe, and why


def plan_step(
    recipe: Recipe,
    vocab_size: int,
    windows: int,
    dtype: torch.dtype = torch.float32,
    ranks: int = 1,
    micro_batches: int = 1,
    memory: float = 80e9,
) -> StepPlan:
    """Return what a step of a recipe takes, by running it on tensors without data.

    `replicas` has all of it on each rank; `owner` divides the optimizer's state, a parameter whole; `fsdp` divides
    weights, gradients and state by rows. One process has replicas.

    Args:
        recipe: any; its batch is not read.
        vocab_size: of its tokenizer.
        windows: of a micro-batch.
        dtype: of the arithmetic; weights stay float32.
        ranks: how many train together.
        micro_batches: of a rank.
        memory: of a device, for which the largest micro-batch is planned.

    Raises:
        ConfigError: the recipe cannot be built, or a part reads numbers while it computes, which are not there.
    """
    recipe.model.size(vocab_size)
    with FakeTensorMode(allow_non_fake_inputs=True):
        trainer, refused = shapes_only(recipe, vocab_size, dtype), dict[str, str]()
        if ranks == 1:
            trainer.ranks = SimulatedAlone()
            wrappers = {"replicas": Steps(trainer, vocab_size, micro_batches).memory(windows, memory)}
        else:
            refused = refusals(recipe, trainer.model)
            with simulated_ranks(ranks, "replicas") as group:
                group.reduce = recipe.reduce if recipe.reduce == "fast" or not ranks & (ranks - 1) else "fast"
                trainer.join(group)
                steps = Steps(trainer, vocab_size, micro_batches)
                wrappers = {"replicas": steps.memory(windows, memory)}
                if "owner" not in refused:
                    wrappers["owner"] = owner_memory(steps, group, wrappers["replicas"])
            if "fsdp" not in refused:
                with simulated_ranks(ranks, "fsdp") as group:
                    with empty_weights():
                        sliced = shapes_only(recipe, vocab_size, dtype)
                    sliced.join(group)
                    wrappers["fsdp"] = Steps(sliced, vocab_size, micro_batches).memory(windows, memory)
    return StepPlan(
        parameters=trainer.model.parameter_count,
        flops_per_token=trainer.model.flops_per_token,
        wrappers=wrappers,
        refused=refused,
    )


def refusals(recipe: Recipe, model: Transformer) -> dict[str, str]:
    """Return the wrappers that cannot divide a recipe among ranks, and why."""
    refused = dict[str, str]()
    for wrapper in WRAPPERS:
        try:
            check_parallel(replace(recipe, reduce="fast"), wrapper)
            if wrapper == "fsdp":
                check_rows(model)
        except ConfigError as error:
            refused[wrapper] = str(error)
    return refused


class ShapesOnly(Transformer):
    """A model whose tensors have no data, and which is on no device that it could be moved from."""

    def _apply(self, *_: Any, **__: Any) -> "ShapesOnly":
        return self


def shapes_only(recipe: Recipe, vocab_size: int, dtype: torch.dtype) -> Trainer:
    """Return a trainer of tensors without data."""
    recipe = replace(recipe, train=replace(recipe.train, grad_accum_steps=1), compile=False)
    machine = Machine(device=torch.device("cpu"), dtype=dtype, threads=torch.get_num_threads())
    ids = np.zeros(recipe.model.context + 2, np.int64)
    text = Windows(ids=ids, context=recipe.model.context, seed=recipe.seeds.data)
    return Trainer(recipe, ShapesOnly(recipe.model, vocab_size), text, machine)


class Steps:
    """Steps of a trainer of tensors without data, and the bytes that are alive in them."""

    def __init__(self, trainer: Trainer, vocab_size: int, micro_batches: int) -> None:
        """Begin to count.

        Args:
            trainer: which has taken no step.
            vocab_size: of its model.
            micro_batches: of a rank in a step.
        """
        self.trainer, self.micro_batches = trainer, micro_batches
        model, ema = trainer.model, trainer.ema
        own = trainer.slices.own if trainer.slices else dict(model.named_parameters())
        shapes = {tuple(param.shape) for param in (*model.parameters(), *own.values())}
        self.live = LiveTensors(shapes=shapes, vocab_size=vocab_size)
        self.live.add([*own.values(), *model.buffers()], "weights")
        self.live.add(ema.averages.values() if ema else (), "optimizer")

    def memory(self, windows: int, limit: float) -> StepMemory:
        """Return what a process takes, with micro-batches of some windows, and with so many that they take the limit.

        A step with any gradients makes the optimizer's state before; how many rows a sparse gradient has, only one that
        is computed shows. Ranks that send gradients while the last micro-batch is computed hold other sums then than
        before, so the fullest of the others is computed too.
        """
        share = range(self.micro_batches)
        computed = {fullest(share)}
        if self.trainer.ranks.size > 1 and self.trainer.slices is None:
            computed = {fullest(share[:-1] or share), share[-1]}
        tables = any(isinstance(module, nn.Embedding) and module.sparse for module in self.trainer.model.modules())
        self.backward(windows, {0} if tables else set())
        self.update()
        self.live.mark(tensors_in(self.trainer.optimizer.state), "optimizer")
        self.live.fullest()
        once = more = self.backward(windows, computed)
        other, chunk = windows, self.trainer.recipe.train.loss_chunk_size
        chunked = MOST_CHUNKS * chunk // self.trainer.model.context
        most = max(2 * windows, min(chunked, MOST_PLANNED) if chunk else MOST_PLANNED)
        for _ in range(TRIES):
            tried = self.filling(other, more, limit * (1 - HEADROOM), most)
            if tried == other:
                break
            self.trainer.release_gradients()
            other, more = tried, self.backward(tried, computed)
        if other == windows:
            self.trainer.release_gradients()
            other, more = 2 * windows, self.backward(2 * windows, computed)
        update = self.update()
        return StepMemory(windows=windows, backward=once, other_windows=other, other_backward=more, update=update)

    def filling(self, windows: int, memory: Memory, limit: float, most: int) -> int:
        """Return the windows of a micro-batch that take about the limit; these windows if they nearly do.

        Args:
            windows: of the micro-batches that were computed last.
            memory: what they took.
            limit: in bytes.
            most: windows to return.
        """
        if abs(memory.total - limit) < NEAR * limit:
            return windows
        each = max(1, self.live.most_computed) / windows
        fixed = memory.total - memory.activations - memory.logits
        return min(most, max(1, int((limit - fixed) / each)))

    def backward(self, windows: int, computed: Collection[int]) -> Memory:
        """Compute the gradients of a step; return the bytes at the fullest moment.

        Args:
            windows: of a micro-batch.
            computed: numbers of the micro-batches that are computed; of the others there are gradients alone.

        Raises:
            ConfigError: a part reads numbers while it computes.
        """
        trainer, size = self.trainer, windows * self.micro_batches
        ranks = trainer.ranks
        assert isinstance(ranks, SimulatedAlone | SimulatedGroup)
        ranks.micro_batches.computed = computed
        self.live.most_computed = 0
        train = replace(trainer.recipe.train, batch_size=size * ranks.size, micro_batch_size=windows)
        trainer.recipe = replace(trainer.recipe, train=train)
        with self.counted():
            x = torch.zeros(size, trainer.model.context, dtype=torch.long)
            for module in trainer.on_step_modules:
                module.on_step(0, train.steps)
            trainer.backward(x, x)
            del x
        return self.live.fullest()

    def update(self) -> Memory:
        """Clip the gradients, and take the optimizer's step with them; return the bytes at the fullest moment.

        Raises:
            ConfigError: the optimizer reads numbers.
        """
        trainer = self.trainer
        with self.counted():
            clip(trainer.model.parameters(), trainer.recipe.train.grad_clip or float("inf"), trainer.ranks)
            with CountsAsOne():  # type: ignore[no-untyped-call]
                trainer.ranks.update(trainer.optimizer.step)
            trainer.release_gradients()
        return self.live.fullest()

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Context in which tensors are counted.

        Raises:
            ConfigError: a number is read, and there is none.
        """
        try:
            with self.live:
                yield
        except (DataDependentOutputException, DynamicOutputShapeException) as error:
            raise ConfigError(
                f"a part of this recipe reads the numbers of a tensor while it computes ({error.func}), and a plan has "
                "none; train a step, and read its memory: nanotx prove or nanotx compare."
            ) from None


def owner_memory(steps: Steps, group: SimulatedGroup, replicas: StepMemory) -> StepMemory:
    """Return what the rank with most state takes, after steps with replicas.

    Gradients are computed as with replicas, so only the optimizer's step is taken again.
    """
    trainer = steps.trainer
    named = {name: param for name, param in trainer.model.named_parameters() if param.requires_grad}
    costs = {param: trainer.recipe.optimizer.step_cost(name, param) for name, param in named.items()}
    state, owned = trainer.optimizer.state, [0] * group.size
    sizes = [bytes_of(tensors_in(state.get(param, {}))) for param in costs]
    for size, owner in zip(sizes, divide([*costs.values()], group.size), strict=True):
        owned[owner] += size
    group.parallel = "owner"
    group.divide(trainer.optimizer, costs)
    steps.backward(replicas.windows, set())
    update = steps.update()

    def less_state(memory: Memory) -> Memory:
        return replace(memory, optimizer=memory.optimizer - sum(sizes) + max(owned))

    return replace(
        replicas,
        backward=less_state(replicas.backward),
        other_backward=less_state(replicas.other_backward),
        update=replace(update, optimizer=update.optimizer - owned[0] + max(owned)),
    )


class CountsAsOne(TorchDispatchMode):
    """Context of an optimizer's step, in which a number that it reads is 1: it reads how many steps it has taken."""

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation, unless it reads a number."""
        if func is torch.ops.aten._local_scalar_dense.default:
            return 1.0 if args[0].is_floating_point() else 1
        return func(*args, **(kwargs or {}))


def fullest(numbers: range) -> int:
    """Return the micro-batch while which most sums of others are alive, and the last of several."""
    before = dict[int, int]()
    alive = 0

    def leaf(number: int) -> int:
        nonlocal alive
        before[number], alive = alive, alive + 1
        return number

    def add(first: int, second: int) -> int:
        nonlocal alive
        alive -= 1
        return first

    tree_sum(numbers, leaf, add)
    return max(numbers, key=lambda number: (before[number], number))


def tensors_in(state: Any) -> list[Tensor]:
    """Return the tensors of an optimizer's state."""
    return [leaf for leaf in tree_leaves(list(state.values())) if isinstance(leaf, Tensor)]


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Return the bytes of tensors; those of one storage count once."""
    return sum({tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in tensors}.values())
