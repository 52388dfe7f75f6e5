"""Dropout whose masks do not depend on how a batch is split.

Whether a number is dropped is a pure function of the seed, the step, the row of the step's batch, the name of the
dropout in the model, and the place of the number in the row. Gradient accumulation, activation checkpointing, threads
and other dropouts change nothing. `row_seeded` gives each dropout of a model one key for each row of a micro-batch;
from a key and a place SplitMix64 makes random bytes, and one byte decides about one number. Outside of that context,
a dropout draws its keys from PyTorch's default generator. In training, `data.batches.step_seed` gives the seed of a
step, and `Trainer.row_randomness` enters the context for the rows of a micro-batch.

Source: Srivastava et al. 2014, https://jmlr.org/papers/v15/srivastava14a.html, scaled while training;
Steele et al. 2014, SplitMix64, https://doi.org/10.1145/2660193.2660195;
Salmon et al. 2011, random numbers from counters, https://doi.org/10.1145/2063384.2063405
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache

import torch
from einops import rearrange
from jaxtyping import Int64, UInt8
from torch import Tensor, nn

from nanotx.errors import ConfigError

LEVELS = 256
"""Number of values of a random byte: the fraction dropped is a multiple of 1/256."""

GOLDEN = -0x61C8864680B583EB
"""SplitMix64's increment: an odd number near 2^64 divided by the golden ratio, as int64."""

RowKeys = Int64[Tensor, " b"]
"""A random number for each row of a micro-batch."""


class Dropout(nn.Module):
    """Zero a fraction of the numbers while training, and scale up the rest so that their mean is kept.

    Call it once in a forward pass, on a tensor whose first dimension is the batch: a second call on the same places
    would drop the same of them, unless it is made within `reused`.
    """

    def __init__(self, fraction: float) -> None:
        """Initialise it with no row keys.

        Args:
            fraction: in [0, 1); rounded to a multiple of 1/256, from 1/256 to 255/256 where it is not zero. The rest
                is scaled by the rounded fraction.
        """
        super().__init__()
        self.fraction = fraction
        self.row_keys: RowKeys | None = None  # set by `row_seeded`

    @property
    def active(self) -> bool:
        """Whether it drops anything: it is in training mode and its fraction is not zero."""
        return self.training and self.fraction > 0

    def forward(self, x: Tensor, start: Sequence[int] = ()) -> Tensor:
        """Return `x` with some numbers zeroed and the rest scaled; `x` itself where nothing is dropped.

        Args:
            x: any floating-point tensor whose first dimension is the batch.
            start: where `x` begins in the whole of which it is a part, in each dimension but the batch; zeros if
                empty. A query block of the attention weights passes its first head, query and key.

        Raises:
            ConfigError: `x` does not have one row for each row of the micro-batch.
        """
        if not self.active:
            return x
        keys = self.row_keys if self.row_keys is not None else draw_keys(x)
        if len(keys) != len(x):
            raise ConfigError(
                f"Dropout: got a tensor of shape {tuple(x.shape)} in a micro-batch of {len(keys)} rows; expected the "
                "batch as its first dimension, from which each row's mask is drawn. Try dropout before the batch is "
                "flattened or gathered."
            )
        dropped = min(max(round(self.fraction * LEVELS), 1), LEVELS - 1)
        draw = torch.ops.nanotx.row_bytes if torch.compiler.is_compiling() else row_bytes  # an operation costs 50 us
        octets = draw(keys, x.shape, start)
        mask = octets.clamp(dropped - 1, dropped) - (dropped - 1)  # 0 or 1; a comparison takes five times as long
        return x * (mask.to(x.dtype) * (LEVELS / (LEVELS - dropped)))


def draw_keys(x: Tensor) -> RowKeys:
    """Return a key for each row of a tensor, drawn from PyTorch's default generator."""
    return torch.randint(-(2**63), 2**63 - 1, (len(x),), device=x.device)


# Keys.


def named_dropouts(model: nn.Module) -> dict[str, Dropout]:
    """Return the dropouts of a model by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, Dropout)}


@contextmanager
def row_seeded(dropouts: Mapping[str, Dropout], seed: int, rows: range, device: torch.device) -> Iterator[None]:
    """Context in which dropouts draw the masks of these rows; the backward pass belongs into it too.

    Args:
        dropouts: by the names that their masks depend on.
        seed: of the training step, below 2^63.
        rows: the numbers of the micro-batch's rows in the batch of the whole step.
        device: of the tensors to come.
    """
    dropouts = {name: dropout for name, dropout in dropouts.items() if dropout.fraction}
    keys = row_keys(seed, rows, tuple(dropouts), device) if dropouts else ()
    for dropout, key in zip(dropouts.values(), keys, strict=True):
        dropout.row_keys = key
    try:
        yield
    finally:
        for dropout in dropouts.values():
            dropout.row_keys = None


@contextmanager
def reused(module: nn.Module, use: int) -> Iterator[None]:
    """Context in which a module that is applied several times in a forward pass drops other numbers in each use.

    Contexts may be nested, as where layers share a block that applies another one twice.

    Args:
        module: its dropouts draw the masks.
        use: how often it was applied before in this pass.
    """
    dropouts = [layer for layer in module.modules() if isinstance(layer, Dropout)]
    keys = [dropout.row_keys for dropout in dropouts]
    for dropout, key in zip(dropouts, keys, strict=True):
        dropout.row_keys = None if key is None else mixed(key + use + 1)  # also in the first use: 0, 1 is not 1, 0
    try:
        yield
    finally:
        for dropout, key in zip(dropouts, keys, strict=True):
            dropout.row_keys = key


def row_keys(seed: int, rows: range, names: tuple[str, ...], device: torch.device) -> tuple[RowKeys, ...]:
    """Return the keys of some rows for each name."""
    of_rows = mixed(seed + GOLDEN * torch.arange(rows.start + 1, rows.stop + 1, device=device))
    of_names = torch.tensor([name_key(name) for name in names], device=device)
    return mixed(rearrange(of_names, "n -> n 1") + of_rows).unbind()


@cache
def name_key(name: str) -> int:
    """Return a number for a name, as int64."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little", signed=True)


# Bytes. They are one operation inside compiled code, defined step by step, because an operation made by `custom_op`
# imports PyTorch's compiler at its first call.

OPERATION = "nanotx::row_bytes"
torch.library.define(OPERATION, "(Tensor keys, SymInt[] shape, SymInt[] start) -> Tensor")


def row_bytes(keys: RowKeys, shape: Sequence[int], start: Sequence[int] = ()) -> UInt8[Tensor, "..."]:
    """Return a random byte for each place of a tensor, a pure function of the row's key and the place.

    The number of a place has its indices as digits, in a system whose base is GOLDEN; eight bytes share one number.

    Args:
        keys: one for each row.
        shape: of the tensor, whose first dimension is the rows.
        start: the indices of its first place in the other dimensions; zeros if empty.
    """
    sizes = tuple(shape[1:]) or (1,)
    *firsts, first = tuple(start) or (0,) * len(sizes)
    skipped = first % 8
    words = -(-(skipped + sizes[-1]) // 8)
    numbers = torch.zeros((), dtype=torch.int64, device=keys.device)
    for begin, size in zip((*firsts, first // 8), (*sizes[:-1], words), strict=True):
        numbers = digit(numbers, begin, size)
    keys = keys.reshape(-1, *(1 for _ in sizes))
    octets = mixed(keys + numbers * GOLDEN).view(torch.uint8)
    return octets[..., skipped : skipped + sizes[-1]].reshape(shape)


torch.library.impl(OPERATION, "CompositeExplicitAutograd", row_bytes)


@torch.library.register_fake(OPERATION)  # type: ignore[untyped-decorator]
def _(keys: Tensor, shape: Sequence[int], start: Sequence[int]) -> Tensor:
    return torch.empty(shape, dtype=torch.uint8, device=keys.device)


def digit(numbers: Int64[Tensor, "*any"], first: int, size: int) -> Int64[Tensor, "*any size"]:
    """Append a digit from `first` to `first + size - 1` to each of some numbers in base GOLDEN."""
    return rearrange(numbers, "... -> ... 1") * GOLDEN + torch.arange(
        first + 1, first + size + 1, device=numbers.device
    )


def mixed(z: Int64[Tensor, "*any"]) -> Int64[Tensor, "*any"]:
    """Mix the bits of int64 numbers in place, by SplitMix64's finalizer; a mask clears the copies of a shifted sign."""
    z ^= (z >> 30).bitwise_and_((1 << 34) - 1)
    z *= -0x40A7B892E31B1A47
    z ^= (z >> 27).bitwise_and_((1 << 37) - 1)
    z *= -0x6B2FB644ECCEEE15
    z ^= (z >> 31).bitwise_and_((1 << 33) - 1)
    return z
