"""`--train.micro-batch-size auto`: the largest micro-batch that fits into memory, hence the fewest micro-batches.

On a CPU the activations that one window keeps for the backward pass are measured, and may take half of the available
memory. On an accelerator the largest size is tried, then smaller ones, until one fits.
"""

import torch
from torch import Tensor

from nanotx.config.schema import divisors
from nanotx.errors import ConfigError
from nanotx.hardware.cgroup import memory_info
from nanotx.nn.shapes import Tokens
from nanotx.training.trainer import Trainer

FREE_FRACTION = 0.5
"""Fraction of the available memory for the activations of a micro-batch; gradients and temporaries need some too."""


def largest_micro_batch(trainer: Trainer) -> int:
    """Return the most windows of a step that fit into memory at once, of the numbers that divide its batch.

    Raises:
        ConfigError: not even one window fits, or the available memory is unknown.
    """
    batch = trainer.recipe.train.batch_size
    sizes = [batch // count for count in divisors(batch)]
    if trainer.machine.device.type == "cpu":
        limit = FREE_FRACTION * available_bytes()
        window = activation_bytes(trainer, 2) - activation_bytes(trainer, 1)
        fit = next((size for size in sizes if window * size <= limit), 0)
    else:
        fit = next((size for size in sizes if fits(trainer, size)), 0)
    if not fit:
        raise ConfigError(
            "train.micro_batch_size: not even one window fits into memory; "
            f"halve model.context={trainer.model.context} or model.dim={trainer.model.config.dim}, "
            "or try --train.activation-checkpointing."
        )
    return fit


def available_bytes() -> int:
    """Return the memory that this process can still allocate, in bytes.

    Raises:
        ConfigError: the operating system does not report it.
    """
    memory = memory_info()
    if memory is None:
        raise ConfigError(
            "train.micro_batch_size: this system does not report how much memory is available, so auto is impossible; "
            "try a number."
        )
    return memory.available


def activation_bytes(trainer: Trainer, windows: int) -> int:
    """Return the bytes that a forward pass over some windows keeps for the backward pass, without the weights."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    weights = {weight.untyped_storage().data_ptr() for weight in trainer.model.parameters()}
    x, y, documents, count = first_windows(trainer, windows)
    with (
        torch.random.fork_rng(devices=[]),
        trainer.row_randomness(range(windows)),
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
    ):
        losses = trainer.forward_loss(
            x, y, documents, count
        )  # holds the activations, so that none is freed and counted again
    del losses
    return sum(size for pointer, size in kept.items() if pointer not in weights)


def first_windows(trainer: Trainer, windows: int) -> tuple[Tokens, Tokens, Tokens | None, float | None]:
    """Return the arguments of `forward_loss` for the first windows of the run, as one micro-batch."""
    x, y = trainer.windows.batch(0, windows)
    return x, y, trainer.windows.documents(0, windows), 1.0 if trainer.windows.masked else None


def fits(trainer: Trainer, windows: int) -> bool:
    """Return whether a micro-batch of some windows goes through forward and backward on the accelerator."""
    x, y, documents, count = first_windows(trainer, windows)
    try:
        with trainer.row_randomness(range(windows)):
            trainer.forward_loss(x, y, documents, count)[0].backward()
    except torch.OutOfMemoryError:
        return False
    finally:
        trainer.optimizer.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
    return True
