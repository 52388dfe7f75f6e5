"""The memory of a training step by kind, computed without allocating it.

A step of the recipe runs on tensors that have a shape and no data (PyTorch's FakeTensor), and the bytes that are alive
are counted at every operation. So the plan follows any part, any optimizer and any order of operations, and is that of
one step on a CPU, whose attention keeps no weights for the backward pass, as those of GPUs do.

Tensors of the recipe's own device need none of it; what an allocator keeps beside them is not counted.
"""

import weakref
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nanotx.data.batches import Windows
from nanotx.distributed import divide, tree_sum
from nanotx.errors import ConfigError
from nanotx.hardware.device import Machine
from nanotx.nn.transformer import Transformer
from nanotx.recipe import Recipe
from nanotx.training.trainer import Trainer, clip

KINDS = ("weights", "gradients", "optimizer", "activations", "logits")
WRAPPERS = ("replicas", "owner", "fsdp")
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
class StepPlan:
    """What a step of a recipe takes, on one process."""

    parameters: int
    flops_per_token: int  # forward and backward
    gradient_bytes: int  # of one set of gradients
    weight_bytes: int
    state_bytes: dict[str, int]  # the optimizer's state of each parameter, by name
    step_costs: dict[str, float]  # of an optimizer's step of each parameter, in any unit
    unit_bytes: list[int]  # the weights of each block
    rest_bytes: int  # the weights outside of blocks
    windows: int  # of the micro-batch that was planned
    once: Memory  # with this micro-batch,
    twice: Memory  # and with one of twice as many windows

    def memory(self, windows: int, micro_batches: int = 1) -> Memory:
        """Return the bytes of a process that computes some micro-batches of some windows.

        Every window adds as much as those by which the two planned micro-batches differ. While a micro-batch is
        computed, the sums of those before it are alive (`distributed/tree.py`).
        """
        more = (windows - self.windows) / self.windows
        sizes = {kind: getattr(self.once, kind) for kind in KINDS}
        grown = {kind: round(sizes[kind] + more * (getattr(self.twice, kind) - sizes[kind])) for kind in KINDS}
        grown["gradients"] += (alive_sums(micro_batches) - 1) * self.gradient_bytes
        return Memory(**grown)

    def on_rank(self, wrapper: str, ranks: int, windows: int, micro_batches: int) -> Memory:
        """Return the bytes of the fullest of some ranks.

        Args:
            wrapper: `replicas` has all of it on each; `owner` divides the optimizer's state, a parameter whole; `fsdp`
                divides weights, gradients and state evenly, and gathers the weights of two blocks and of what is
                outside of blocks, and the gradients of one block.
            ranks: how many.
            windows: of a micro-batch.
            micro_batches: of a rank.
        """
        alone = self.memory(windows, micro_batches)
        if wrapper == "replicas" or ranks == 1:
            return alone
        if wrapper == "owner":
            return replace(alone, optimizer=alone.optimizer - sum(self.state_bytes.values()) + self.most_owned(ranks))
        block = max(self.unit_bytes, default=0)
        gathered = self.rest_bytes + min(2, len(self.unit_bytes)) * block
        sums = -(-self.gradient_bytes // ranks)
        return Memory(
            weights=-(-alone.weights // ranks) + gathered,
            gradients=sums + max(block, self.rest_bytes),
            optimizer=-(-alone.optimizer // ranks),
            activations=alone.activations,
            logits=alone.logits,
        )

    def most_owned(self, ranks: int) -> int:
        """Return the state of the rank that owns most, where the optimizer's steps are divided evenly."""
        owned = [0] * ranks
        for name, owner in zip(self.step_costs, divide(list(self.step_costs.values()), ranks), strict=True):
            owned[owner] += self.state_bytes[name]
        return max(owned)

    def most_windows(self, wrapper: str, ranks: int, memory: float, micro_batches: int) -> int:
        """Return the largest micro-batch whose step fits into a device's memory with `HEADROOM`; 0 if none does."""
        limit = memory * (1 - HEADROOM)

        def total(windows: int) -> int:
            return self.on_rank(wrapper, ranks, windows, micro_batches).total

        slope = max(1, total(2 * self.windows) - total(self.windows)) / self.windows
        return max(0, int(self.windows + (limit - total(self.windows)) // slope))


def plan_step(recipe: Recipe, vocab_size: int, windows: int, dtype: torch.dtype = torch.float32) -> StepPlan:
    """Return what a step of a recipe takes, by running it on tensors without data.

    Args:
        recipe: any; its batch is not read.
        vocab_size: of its tokenizer.
        windows: of a micro-batch.
        dtype: of the arithmetic; weights stay float32.

    Raises:
        ConfigError: the recipe cannot be built, or a part reads numbers while it computes, which are not there.
    """
    recipe.model.size(vocab_size)
    memories = list[Memory]()
    with FakeTensorMode(allow_non_fake_inputs=True):
        for size in (windows, 2 * windows):
            trainer = shapes_only(recipe, vocab_size, dtype, size)
            memories.append(peak_of(trainer, size, vocab_size))
    model = trainer.model
    named = {name: param for name, param in model.named_parameters() if param.requires_grad}
    blocks = [bytes_of(block.parameters()) for block in model.blocks]
    weights = bytes_of(model.parameters())
    state = {name: bytes_of(tensors_in(trainer.optimizer.state.get(param, {}))) for name, param in named.items()}
    return StepPlan(
        parameters=model.parameter_count,
        flops_per_token=model.flops_per_token,
        gradient_bytes=bytes_of(named.values()),
        weight_bytes=weights,
        state_bytes=state,
        step_costs={name: recipe.optimizer.step_cost(name, param) for name, param in named.items()},
        unit_bytes=blocks,
        rest_bytes=max(0, weights - sum(blocks)),
        windows=windows,
        once=memories[0],
        twice=memories[1],
    )


class ShapesOnly(Transformer):
    """A model whose tensors have no data, and which is on no device that it could be moved from."""

    def to(self, *_: Any, **__: Any) -> "ShapesOnly":
        """Return the model."""
        return self


def shapes_only(recipe: Recipe, vocab_size: int, dtype: torch.dtype, windows: int) -> Trainer:
    """Return a trainer of tensors without data, which takes one micro-batch of some windows a step."""
    recipe = replace(
        recipe, train=replace(recipe.train, batch_size=windows, micro_batch_size=0, grad_accum_steps=1), compile=False
    )
    machine = Machine(device=torch.device("cpu"), dtype=dtype, threads=torch.get_num_threads())
    ids = np.zeros(recipe.model.context + 2, np.int64)
    text = Windows(ids=ids, context=recipe.model.context, seed=recipe.seeds.data)
    return Trainer(recipe, ShapesOnly(recipe.model, vocab_size), text, machine)


def peak_of(trainer: Trainer, windows: int, vocab_size: int) -> Memory:
    """Return the bytes at the peak of the second step of a trainer; the first one makes the optimizer's state.

    Raises:
        ConfigError: a part reads numbers while it computes.
    """

    def step() -> None:
        x = torch.zeros(windows, trainer.model.context, dtype=torch.long)
        for module in trainer.on_step_modules:
            module.on_step(0, trainer.recipe.train.steps)
        trainer.backward(x, x)
        clip(trainer.model.parameters(), trainer.recipe.train.grad_clip or float("inf"))
        with CountsAsOne():  # type: ignore[no-untyped-call]
            trainer.optimizer.step()
        trainer.release_gradients()

    try:
        step()
        live = LiveTensors(shapes={tuple(param.shape) for param in trainer.model.parameters()}, vocab_size=vocab_size)
        live.add([*trainer.model.parameters(), *trainer.model.buffers()], "weights")
        live.add(tensors_in(trainer.optimizer.state), "optimizer")
        live.add(trainer.ema.averages.values() if trainer.ema else (), "optimizer")
        with live:
            step()
    except torch._subclasses.fake_tensor.DataDependentOutputException as error:
        raise ConfigError(
            f"a part of this recipe reads the numbers of a tensor while it computes ({error.func}), and a plan has "
            "none; train a step, and read its memory: nanotx prove or nanotx compare."
        ) from None
    return Memory(**{kind: live.peak[kind] for kind in KINDS})


class CountsAsOne(TorchDispatchMode):
    """Context of an optimizer's step, in which a number that it reads is 1: it reads how many steps it has taken."""

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation, unless it reads a number."""
        if func is torch.ops.aten._local_scalar_dense.default:
            return 1.0 if args[0].is_floating_point() else 1
        return func(*args, **(kwargs or {}))


class LiveTensors(TorchDispatchMode):
    """Context that counts the bytes of tensors that are alive, by kind, and keeps the counts of the fullest moment."""

    def __init__(self, shapes: set[tuple[int, ...]], vocab_size: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.shapes, self.vocab_size = shapes, vocab_size
        self.known = set[int]()
        self.now, self.peak = Counter[str](), Counter[str]()

    def add(self, tensors: Iterable[Tensor], kind: str) -> None:
        """Count tensors whose memory is not counted yet, until it is freed."""
        for tensor in tensors:
            if tensor.layout is not torch.strided:
                self.add([tensor._indices(), tensor._values()], kind)
                continue
            storage = tensor.untyped_storage()
            key, size = storage._cdata, storage.nbytes()
            if key in self.known:
                continue
            self.known.add(key)
            self.now[kind] += size
            weakref.finalize(storage, self.free, key, kind, size)
        if self.now.total() > self.peak.total():
            self.peak = self.now.copy()

    def free(self, key: int, kind: str, size: int) -> None:
        """Count memory no longer."""
        self.known.discard(key)
        self.now[kind] -= size

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
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.add([leaf], self.kind(leaf))
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
