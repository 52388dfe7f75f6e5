"""How many windows of a step fit into memory at once: the largest micro-batch, hence the fewest micro-batches.

On a CPU what a window leaves behind for the backward pass is counted, and half of the free memory is given to it; on
an accelerator the largest is tried, then half of it, until one fits.
"""

import torch
from torch import Tensor

from nanotx.config.schema import divisors
from nanotx.errors import ConfigError
from nanotx.hardware.cgroup import memory_info
from nanotx.training.trainer import Trainer

SHARE = 0.5
"""Of the free memory, for what the windows of a micro-batch leave behind; gradients and temporaries need some too."""


def largest(trainer: Trainer) -> int:
    """The most windows of a step that fit into memory at once, of those numbers that divide its batch.

    Raises:
        ConfigError: not even one window fits.
    """
    batch = trainer.recipe.train.batch_size
    sizes = [batch // parts for parts in divisors(batch)]
    with trainer.buffers.undone_on_error() as undo:
        if trainer.machine.device.type == "cpu":
            room = SHARE * available()
            row = left_behind(trainer, 2) - left_behind(trainer, 1)
            fit = next((size for size in sizes if row * size <= room), 0)
        else:
            fit = next((size for size in sizes if tried(trainer, size)), 0)
        undo()
    if not fit:
        raise ConfigError(
            "train.micro_batch_size: not even one window fits into memory; "
            f"halve model.context={trainer.model.context} or model.dim={trainer.model.config.dim}, "
            "or try --train.activation-checkpointing."
        )
    return fit


def available() -> int:
    """The bytes that this process can still have.

    Raises:
        ConfigError: the system does not say.
    """
    found = memory_info()
    if found is None:
        raise ConfigError(
            "train.micro_batch_size: this system does not tell what memory is free; give a number for auto."
        )
    return found.available


def left_behind(trainer: Trainer, rows: int) -> int:
    """The bytes that a forward pass over so many windows keeps for the backward pass."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    weights = {one.untyped_storage().data_ptr() for one in trainer.model.parameters()}
    x, y = trainer.windows.batch(0, rows)
    with (
        torch.random.fork_rng(devices=[]),
        trainer.row_randomness(range(rows)),
        torch.autograd.graph.saved_tensors_hooks(pack, lambda one: one),
    ):
        held = trainer.forward_loss(x, y)  # what it kept is freed where this goes
    del held
    return sum(size for place, size in kept.items() if place not in weights)


def tried(trainer: Trainer, rows: int) -> bool:
    """Whether a micro-batch of so many windows goes through, forward and backward."""
    x, y = trainer.windows.batch(0, rows)
    try:
        with trainer.row_randomness(range(rows)):
            trainer.forward_loss(x, y)[0].backward()
    except torch.OutOfMemoryError:
        return False
    finally:
        trainer.optimizer.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
    return True
