"""What is timed of a part, by its slot: passes through a layer alone, steps of an optimizer, or texts encoded."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nanotx.config.registry import Slot
from nanotx.experiments.prove.timing import Run
from nanotx.hardware.device import Machine
from nanotx.laws.weights import seeded
from nanotx.nn.attention import Attention
from nanotx.nn.attention.sdpa import Sdpa
from nanotx.nn.block import Block
from nanotx.nn.loss import Head
from nanotx.nn.pass_store import connect
from nanotx.nn.position import NO_POSITION, PositionalEncoding
from nanotx.nn.transformer import Model
from nanotx.tokenizers import Codec

FORWARD, BOTH = "forward", "forward, backward"

VOCAB = 1024
"""Ids of the embeddings, losses and models that are timed."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """Sizes of one input, and the number of heads."""

    batch: int
    time: int
    dim: int
    heads: int

    def __str__(self) -> str:
        return f"{self.batch} x {self.time} x {self.dim}"


SIZES = (
    Size(batch=12, time=64, dim=128, heads=4),  # of the recipe macbook
    Size(batch=4, time=256, dim=384, heads=6),  # a quarter of a micro-batch of the recipe baby_gpt
    Size(batch=1, time=1024, dim=384, heads=6),  # a long text
)

Passes = Mapping[str, Callable[[], Run]]
"""Functions that build what is timed, by the name of the pass."""


def passes_of(slot: str, config: Any, size: Size, machine: Machine) -> Passes:
    """Return the passes of a part at a size.

    Raises:
        ConfigError: the part does not fit the size.
    """
    if slot == "optimizer":
        return {"step": lambda: optimizer_step(config, size, machine)}
    config = at_size(config, size)
    return {
        FORWARD: lambda: layer_pass(slot, config, size, machine, backward=False),
        BOTH: lambda: layer_pass(slot, config, size, machine, backward=True),
    }


TEXT_SIZES = (10_000, 100_000, 1_000_000)
"""Characters of the texts that a tokenizer encodes."""


def text_passes(codec: Codec, text: str) -> Passes:
    """Return encoding a text, and decoding its ids."""

    def decoding() -> Run:
        ids = codec.encode(text)
        return lambda: codec.decode(ids)

    return {"encode": lambda: lambda: codec.encode(text), "decode": decoding}


def at_size(config: Any, size: Size) -> Any:
    """Return a config with the heads of a size and without dropout, and so for the parts within it.

    Raises:
        ConfigError: the part does not fit these heads.
    """
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, Slot):
            changes[field.name] = at_size(value, size)
        elif field.name == "heads":
            changes["heads"] = size.heads
        elif field.name == "dropout":
            changes["dropout"] = 0.0
    return dataclasses.replace(config, **changes)


def layer_pass(slot: str, config: Any, size: Size, machine: Machine, backward: bool) -> Run:
    """Return a pass through a part alone: without gradients, or with those of the input and of all weights.

    Both parts get the same input, and the mathematics is in the machine's dtype, as in training.
    """
    with seeded(0):
        alone = Alone(slot, config, size).to(machine.device).train(backward)
        x = torch.randn(size.batch, size.time, size.dim).to(machine.device)
        ids = torch.randint(VOCAB, (size.batch, size.time)).to(machine.device)
    inputs = ids if slot == "embedding" else x.requires_grad_(backward)

    def forward() -> Tensor:
        with machine.autocast():
            y: Tensor = alone(inputs, ids)
        return y

    if not backward:
        return torch.no_grad()(forward)
    cotangent = torch.randn(forward().shape, generator=torch.Generator().manual_seed(1)).to(machine.device)
    leaves = [tensor for tensor in [inputs, *alone.parameters()] if tensor.requires_grad]

    def both() -> object:
        y = forward()
        return torch.autograd.grad(y, leaves, cotangent.to(y), allow_unused=True)

    return both


class Alone(nn.Module):
    """One part in the setting in which it is timed."""

    def __init__(self, slot: str, config: Any, size: Size) -> None:
        super().__init__()
        self.slot, self.reads = slot, isinstance(config, Attention | Block) or slot == "position"
        self.encoding: PositionalEncoding = NO_POSITION
        self.head: nn.Linear | None = None
        match slot:
            case "embedding":
                self.part = config.build(VOCAB, size.dim)
            case "loss":
                self.part, self.head = config.build(VOCAB, size.dim), nn.Linear(size.dim, VOCAB, bias=False)
            case "position":
                self.encoding = config.build(size.dim, size.heads, size.time)
                self.part = Sdpa(heads=size.heads).build(size.dim)
            case _:
                self.part = config.build(size.dim)
        self.store = connect(self)

    def forward(self, x: Tensor, ids: Tensor) -> Tensor:
        """Return the output for a stream, or ids for an embedding; a loss takes the ids as its targets."""
        if self.store is None:
            return self.output(x, ids)
        with self.store.one_pass():
            return self.output(x, ids)

    def output(self, x: Tensor, ids: Tensor) -> Tensor:
        """Return the output, within one forward pass."""
        if self.head is not None:
            total: Tensor = self.part(Head(self.head, [*self.head.parameters()]), x, ids)[0]
            return total
        if self.slot == "position":
            x = self.encoding.embed(x, torch.arange(x.shape[1], device=x.device))
        y: Tensor = self.part(x, self.encoding) if self.reads else self.part(x)
        return y


def optimizer_step(config: Any, size: Size, machine: Machine) -> Run:
    """Return a step of an optimizer over the weights of a model of the size's width, with the same gradients."""
    model = Model(dim=size.dim, layers=2, context=size.time).build(VOCAB).to(machine.device)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator).to(machine.device)
    optimizer = config.build_grouped(model.named_parameters())
    run: Run = optimizer.step
    return run


SETTINGS = {
    "attention": "one layer alone, without a position",
    "block": "one block alone, without a position",
    "ffn": "one layer alone",
    "norm": "one layer alone",
    "position": "within one attention, sdpa",
    "embedding": f"alone, with {VOCAB:,} ids",
    "loss": f"with a head of {VOCAB:,} ids",
    "optimizer": "one step over the weights of two layers of the width",
    "tokenizer": "trained on the recipe's training text, in one process",
}
"""In which setting a slot's parts are timed; slots that are not here are not timed."""

NOT_TIMED = {"schedule": "a schedule is one number per step, which takes no time that could be measured"}
"""Why the parts of other slots are not timed."""

NO_MEMORY = ("tokenizer",)
"""Slots whose memory is not measured: PyTorch's allocator does not see it."""
