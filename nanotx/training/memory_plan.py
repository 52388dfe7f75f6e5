"""The memory of a training step by kind, computed without allocating it.

A step of the recipe runs on tensors that have a shape and no data (PyTorch's FakeTensor), and the bytes that are alive
are counted at every operation. So the plan follows any part, any optimizer and any order of operations, and is that of
one step on a CPU, whose attention keeps no weights for the backward pass, as those of GPUs do.

For `fsdp` it is a step of rank 0 of as many ranks as there are GPUs, of which the others are not there
(`distributed/simulated.py`). No rank takes more: rank 0 has the most rows.

Tensors of the recipe's own device need none of it; what an allocator keeps beside them is not counted.
"""

import weakref
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, UntypedStorage
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass_type
from torch.utils._pytree import tree_leaves

from nanotx.data.batches import Windows
from nanotx.distributed import check_parallel, divide, tree_sum
from nanotx.distributed.simulated import simulated_ranks
from nanotx.errors import ConfigError
from nanotx.hardware.device import Machine
from nanotx.nn.empty import empty_weights
from nanotx.nn.transformer import Transformer
from nanotx.recipe import Recipe
from nanotx.training.trainer import Trainer, check_rows, clip

KINDS = ("weights", "gradients", "optimizer", "activations", "logits")
WRAPPERS = ("replicas", "owner", "fsdp")
MOST_WINDOWS = 2**40
"""No micro-batch is as large."""

HEADROOM = 0.1
"""Fraction of a device's memory that is left to its libraries and to gaps between tensors."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes of tensors at the peak of a step, by kind."""

    weights: int  # and buffers
    gradients: int  # of all sums of micro-batches that are alive
    optimizer: int  # its state, and the average of the weights if there is one
    activations: int  # kept for the backward pass, and temporary tensors
    logits: int  # and tensors of their shape

    @property
    def total(self) -> int:
        """Return the bytes of all kinds."""
        return sum(getattr(self, kind) for kind in KINDS)


@dataclass(frozen=True, kw_only=True)
class StepMemory:
    """Bytes of a process at the fullest moments of a step, for any micro-batches: from two that were planned."""

    windows: int  # of the micro-batch that was planned
    once: Memory  # while the gradients of this micro-batch are computed,
    twice: Memory  # and of one with twice as many windows
    update: Memory  # after that, while gradients are clipped and the optimizer steps
    gradient_bytes: int  # of one set of gradients

    def memory(self, windows: int, micro_batches: int = 1) -> Memory:
        """Return the bytes of a process that computes some micro-batches of some windows, at the fullest moment.

        Every window adds as much as those by which the two planned micro-batches differ. While a micro-batch is
        computed, the sums of those before it are alive (`distributed/tree.py`).
        """
        more = (windows - self.windows) / self.windows
        sizes = {kind: getattr(self.once, kind) for kind in KINDS}
        grown = {kind: round(sizes[kind] + more * (getattr(self.twice, kind) - sizes[kind])) for kind in KINDS}
        grown["gradients"] += (alive_sums(micro_batches) - 1) * self.gradient_bytes
        return max((Memory(**grown), self.update), key=lambda memory: memory.total)


@dataclass(frozen=True, kw_only=True)
class StepPlan:
    """What a step of a recipe takes, on one of some ranks."""

    parameters: int
    flops_per_token: int  # forward and backward
    state_bytes: dict[str, int]  # the optimizer's state of each parameter, by name
    step_costs: dict[str, float]  # of an optimizer's step of each parameter, in any unit
    ranks: int  # that train together
    whole: StepMemory  # of a process with all weights and state
    sliced: StepMemory | None  # of rank 0 with its slices; None for one process, and where `fsdp` is refused
    refused: dict[str, str]  # the wrappers that cannot divide the recipe, and why

    def on_rank(self, wrapper: str, windows: int, micro_batches: int) -> Memory:
        """Return the bytes of the fullest rank.

        Args:
            wrapper: `replicas` has all of it on each; `owner` divides the optimizer's state, a parameter whole; `fsdp`
                divides weights, gradients and state by rows.
            windows: of a micro-batch.
            micro_batches: of a rank.

        Raises:
            ConfigError: the recipe cannot be divided so; says why.
        """
        if wrapper in self.refused:
            raise ConfigError(self.refused[wrapper])
        if wrapper == "fsdp" and self.sliced is not None:
            return self.sliced.memory(windows, micro_batches)
        alone = self.whole.memory(windows, micro_batches)
        if wrapper == "owner" and self.ranks > 1:
            return replace(alone, optimizer=alone.optimizer - sum(self.state_bytes.values()) + self.most_owned())
        return alone

    def most_owned(self) -> int:
        """Return the state of the rank that owns most, where the optimizer's steps are divided evenly."""
        owned = [0] * self.ranks
        for name, owner in zip(self.step_costs, divide(list(self.step_costs.values()), self.ranks), strict=True):
            owned[owner] += self.state_bytes[name]
        return max(owned)

    def most_windows(self, wrapper: str, memory: float, micro_batches: int) -> int:
        """Return the largest micro-batch whose step fits into a device's memory with `HEADROOM`; 0 if none does."""
        return bisect_right(
            range(1, MOST_WINDOWS),
            memory * (1 - HEADROOM),
            key=lambda windows: self.on_rank(wrapper, windows, micro_batches).total,
        )


def plan_step(
    recipe: Recipe, vocab_size: int, windows: int, dtype: torch.dtype = torch.float32, ranks: int = 1
) -> StepPlan:
    """Return what a step of a recipe takes, by running it on tensors without data.

    Args:
        recipe: any; its batch is not read.
        vocab_size: of its tokenizer.
        windows: of a micro-batch.
        dtype: of the arithmetic; weights stay float32.
        ranks: how many train together.

    Raises:
        ConfigError: the recipe cannot be built, or a part reads numbers while it computes, which are not there.
    """
    recipe.model.size(vocab_size)
    with FakeTensorMode(allow_non_fake_inputs=True):
        trainer = shapes_only(recipe, vocab_size, dtype)
        whole = plan_memory(trainer, vocab_size, windows)
        refused = refusals(recipe, trainer.model) if ranks > 1 else {}
        sliced = None
        if ranks > 1 and "fsdp" not in refused:
            with simulated_ranks(ranks, "fsdp") as group:
                with empty_weights():
                    rank = shapes_only(recipe, vocab_size, dtype)
                rank.join(group)
                sliced = plan_memory(rank, vocab_size, windows)
    model, state = trainer.model, trainer.optimizer.state
    named = {name: param for name, param in model.named_parameters() if param.requires_grad}
    return StepPlan(
        parameters=model.parameter_count,
        flops_per_token=model.flops_per_token,
        state_bytes={name: bytes_of(tensors_in(state.get(param, {}))) for name, param in named.items()},
        step_costs={name: recipe.optimizer.step_cost(name, param) for name, param in named.items()},
        ranks=ranks,
        whole=whole,
        sliced=sliced,
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


def plan_memory(trainer: Trainer, vocab_size: int, windows: int) -> StepMemory:
    """Return what a process takes, from two steps of a trainer, which has no optimizer state yet.

    The first step makes that state, so its bytes are added to those of the first backward pass. What the optimizer's
    step takes depends on no window.

    Raises:
        ConfigError: a part reads numbers while it computes.
    """
    model, ranks, ema = trainer.model, trainer.ranks, trainer.ema
    own = trainer.slices.own if trainer.slices else dict(model.named_parameters())
    shapes = {tuple(param.shape) for param in (*model.parameters(), *own.values())}
    live = LiveTensors(shapes=shapes, vocab_size=vocab_size)
    live.add([*own.values(), *model.buffers()], "weights")
    live.add(ema.averages.values() if ema else (), "optimizer")

    def backward(windows: int) -> Memory:
        train = replace(trainer.recipe.train, batch_size=windows * ranks.size, micro_batch_size=windows)
        trainer.recipe = replace(trainer.recipe, train=train)
        x = torch.zeros(windows, model.context, dtype=torch.long)
        for module in trainer.on_step_modules:
            module.on_step(0, train.steps)
        trainer.backward(x, x)
        return live.fullest()

    def update() -> Memory:
        clip(model.parameters(), trainer.recipe.train.grad_clip or float("inf"), ranks)
        with CountsAsOne():  # type: ignore[no-untyped-call]
            ranks.update(trainer.optimizer.step)
        trainer.release_gradients()
        return live.fullest()

    try:
        with live:
            once = backward(windows)
            update()
            state = tensors_in(trainer.optimizer.state)
            live.mark(state, "optimizer")
            twice, updated = backward(2 * windows), update()
    except torch._subclasses.fake_tensor.DataDependentOutputException as error:
        raise ConfigError(
            f"a part of this recipe reads the numbers of a tensor while it computes ({error.func}), and a plan has "
            "none; train a step, and read its memory: nanotx prove or nanotx compare."
        ) from None
    return StepMemory(
        windows=windows,
        once=replace(once, optimizer=once.optimizer + bytes_of(state)),
        twice=twice,
        update=updated,
        gradient_bytes=bytes_of(param for param in own.values() if param.requires_grad),
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


GATHER = "fsdp.split_with_sizes_copy.default"
"""Operation of FSDP2 that puts the weights of all ranks into the tensors that modules compute with."""

SENT = {
    "fsdp.all_gather_copy_in.default": "weights",
    GATHER: "weights",
    "fsdp.chunk_cat.default": "gradients",
    "c10d._reduce_scatter_base_.default": "gradients",
}
"""Operations by which FSDP2 sends tensors, and the kind of all tensors that they read and write."""


class LiveTensors(TorchDispatchMode):
    """Context that counts the bytes of tensors that are alive, by kind, and keeps the counts of the fullest moment.

    FSDP2 keeps the tensors into which it gathers weights, and takes their memory away in between. No operation tells of
    that, so the storages of gathered weights are looked at before each.
    """

    def __init__(self, shapes: set[tuple[int, ...]], vocab_size: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.shapes, self.vocab_size = shapes, vocab_size
        self.known = dict[int, tuple[str, int]]()  # the kind and the bytes of a storage
        self.gathered = dict[int, UntypedStorage]()  # of weights
        self.now, self.peak = Counter[str](), Counter[str]()

    def add(self, tensors: Iterable[Tensor], kind: str) -> None:
        """Count tensors whose memory is not counted yet, until it is freed."""
        for tensor in tensors:
            if tensor.layout is not torch.strided:
                self.add([tensor._indices(), tensor._values()], kind)
            elif is_traceable_wrapper_subclass_type(type(tensor)):
                continue  # its own tensors are counted
            elif (storage := tensor.untyped_storage())._cdata not in self.known:
                weakref.finalize(storage, self.free, storage._cdata)
                self.count(storage, kind)
        if self.now.total() > self.peak.total():
            self.peak = self.now.copy()

    def mark(self, tensors: Sequence[Tensor], kind: str) -> None:
        """Count tensors as of a kind, with the bytes that they have now."""
        self.add(tensors, kind)
        for tensor in tensors:
            self.count(tensor.untyped_storage(), kind)
        self.add((), kind)

    def fullest(self) -> Memory:
        """Return the bytes of the fullest moment up to now, and begin anew."""
        peak, self.peak = self.peak, self.now.copy()
        return Memory(**{kind: peak[kind] for kind in KINDS})

    def count(self, storage: UntypedStorage, kind: str) -> None:
        """Count memory as one of a kind, with the bytes that it has now."""
        self.now.subtract(dict([self.known.get(storage._cdata, (kind, 0))]))
        self.known[storage._cdata] = kind, storage.nbytes()
        self.now[kind] += storage.nbytes()

    def free(self, key: int) -> None:
        """Count memory no longer."""
        self.now.subtract(dict([self.known.pop(key)]))

    def kind(self, tensor: Tensor) -> str:
        """Return the kind of a tensor that an operation has made."""
        shape = tuple(tensor.shape)
        if shape in self.shapes or shape[::-1] in self.shapes:
            return "gradients"
        return "logits" if shape and shape[-1] == self.vocab_size else "activations"

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation, and count the tensors that it returns."""
        if func is torch.ops.prim.device.default:
            return func(*args)
        if any(map(is_traceable_wrapper_subclass_type, types)):
            return NotImplemented  # of a tensor in slices: what it does with its own slice comes here
        for key in [key for key, storage in self.gathered.items() if not storage.nbytes()]:
            self.count(self.gathered.pop(key), "weights")
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.add([leaf], self.kind(leaf))
        name = str(func)
        if kind := SENT.get(name):
            self.mark([leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)], kind)
        if name == GATHER:
            storages = [tensor.untyped_storage() for tensor in (kwargs or {})["out"]]
            self.gathered |= {storage._cdata: storage for storage in storages}
        return result


def alive_sums(micro_batches: int) -> int:
    """Return how many sets of gradients are alive at most while micro-batches are summed along their tree."""
    most = alive = 0

    def leaf(number: int) -> int:
        nonlocal most, alive
        alive += 1
        most = max(most, alive)
        return 1

    def add(first: int, second: int) -> int:
        nonlocal alive
        alive -= 1
        return 1

    tree_sum(range(micro_batches), leaf, add)
    return most


def tensors_in(state: Any) -> list[Tensor]:
    """Return the tensors of an optimizer's state."""
    return [leaf for leaf in tree_leaves(list(state.values())) if isinstance(leaf, Tensor)]


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Return the bytes of tensors; those of one storage count once."""
    return sum({tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in tensors}.values())
