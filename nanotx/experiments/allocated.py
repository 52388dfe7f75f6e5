"""The most bytes of tensors that a call holds, counted by PyTorch's profiler: on a CPU no allocator keeps a peak."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate

from torch.autograd.profiler import profile


def most_allocated(run: Callable[[], object]) -> int:
    """Return the most bytes of tensors on the CPU that a call holds above those before it."""
    with silent_stderr(), profile(profile_memory=True) as profiler:
        run()
    events = profiler.kineto_results.events() if profiler.kineto_results else []
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    return max([0, *accumulate(change for _, change in changes)])


@contextmanager
def silent_stderr() -> Iterator[None]:
    """Discard what is written to the standard error inside this context: the profiler logs that it begins and ends."""
    try:
        saved = os.dup(2)
    except OSError:  # the process was started without one
        yield
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)
