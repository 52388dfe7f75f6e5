"""Memory: refuse allocations that cannot fit, and keep freed pages for the next step.

The check counts a lower bound, so it never refuses an allocation that fits.

A training step allocates and frees the same large tensors repeatedly. By default glibc requests each of them anew from
the kernel and returns it after use; the kernel clears every page when it is first touched. Pages that are kept on the
heap need neither. Source: mallopt(3); measured in docs/decisions/device.md.
"""

import ctypes
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanotx.errors import ConfigError
from nanotx.hardware.cgroup import memory_info

GIB = 2**30


def check_memory(what: str, size: int, remedy: str) -> None:
    """Raise ConfigError if an allocation needs more memory than is available.

    Args:
        what: its name, for the message.
        size: a lower bound of its size, in bytes.
        remedy: the advice of the message.
    """
    memory = memory_info()  # None if the system does not report it
    if memory is not None and size > memory.available:
        raise ConfigError(
            f"{what} take at least {size / GIB:,.1f} GiB, and {memory.available / GIB:,.1f} GiB of memory are free; "
            f"try {remedy}."
        )


def leaves_as_much(size: int, device: str = "cpu") -> bool:
    """Return whether at least as much memory stays free as an allocation takes; True where the system does not say.

    Args:
        size: of the allocation, in bytes.
        device: whose memory is meant.
    """
    free = free_memory(device)
    return free is None or 2 * size <= free


def free_memory(device: str) -> int | None:
    """Return the bytes that tensors can still take on a device; None where the system does not say."""
    if device == "cuda":
        cuda: Any = sys.modules["torch"].cuda
        return int(cuda.mem_get_info()[0] + cuda.memory_reserved() - cuda.memory_allocated())
    memory = memory_info() if device == "cpu" else None
    return None if memory is None else memory.available


def check_step_memory(plan: Any, model: Any, device: str) -> None:
    """Raise ConfigError if a training step needs more memory than is available.

    Args:
        plan: the recipe's `train`.
        model: the recipe's `model`.
        device: of the training; activations on a GPU need none of this memory.
    """
    rows = 1 if plan.micro_batch_size == "auto" else plan.batch_size // plan.num_micro_batches
    ids = 2 * 8 * plan.batch_size * (model.context + 1)  # index and id of each token
    stream = 2 * rows * model.context * model.dim * model.layers * (device == "cpu")  # in bfloat16, the smallest dtype
    remedy = f"--train.batch-size than {plan.batch_size}" if ids > stream else f"--train.micro-batch-size than {rows}"
    what = f"train: {plan.batch_size:,} windows of {model.context:,} tokens a step"
    check_memory(what, ids + stream, f"a smaller {remedy}")


def used_memory() -> tuple[int, int]:
    """Return the bytes that this process holds in memory, and the most that its tensors held on the GPU; 0 for unknown.

    On systems without /proc the first is the most that it held so far.
    """
    torch = sys.modules.get("torch")
    gpu = torch.cuda.max_memory_allocated() if torch is not None and torch.cuda.is_initialized() else 0
    with suppress(OSError, ValueError, IndexError):
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE"), gpu
    try:
        import resource
    except ImportError:  # Windows
        return 0, gpu
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, gpu


ALLOCATOR_VARIABLE = "NANOTX_ALLOCATOR"
"""The environment variable: `keep` (the default) or `system`."""

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # the names and numbers of malloc.h


@dataclass(frozen=True, kw_only=True)
class AllocatorPlan:
    """Decision whether to keep freed memory, with the reason."""

    keeps: bool
    reason: str


def keep_freed_memory() -> AllocatorPlan:
    """Keep freed memory for the rest of the process, if the allocator allows it; idempotent.

    Raises:
        ConfigError: the environment variable is neither `keep` nor `system`.
    """
    plan = plan_allocator(os.environ, libc())
    if plan.keeps and not all(set_option(option, value) for option, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1))):
        return AllocatorPlan(keeps=False, reason="glibc refused the option")
    return plan


def plan_allocator(environment: Mapping[str, str], library: str) -> AllocatorPlan:
    """Decide whether to keep freed memory, given the environment and the C library."""
    choice = environment.get(ALLOCATOR_VARIABLE, "keep")
    if choice not in ("keep", "system"):
        raise ConfigError(f"{ALLOCATOR_VARIABLE}: expected keep or system, got {choice!r}; unset it for keep.")
    own = [name for name in environment if name.startswith("MALLOC_") or name in ("GLIBC_TUNABLES", "LD_PRELOAD")]
    if choice == "system":
        return AllocatorPlan(keeps=False, reason=f"{ALLOCATOR_VARIABLE}=system")
    if not library.startswith("glibc"):
        return AllocatorPlan(keeps=False, reason="only glibc's allocator has this option")
    if own:
        return AllocatorPlan(
            keeps=False, reason=f"{sorted(own)[0]} is set, so the allocator is left as you configured it"
        )
    return AllocatorPlan(keeps=True, reason=f"{library}: freed memory is kept, so that no page is cleared twice")


def libc() -> str:
    """Return the name and version of the C library; empty if it is not glibc."""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, ValueError, OSError):  # Windows; macOS and musl
        return ""


def set_option(option: int, value: int) -> bool:
    """Set an option of the allocator and return whether it was accepted."""
    mallopt: Callable[[int, int], int] = ctypes.CDLL(None).mallopt
    return mallopt(option, value) == 1
