"""Which of the library's attention kernels really ran: seen when it runs, not guessed from what was asked for."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from torch.profiler import ProfilerActivity, profile

Kernels = tuple[str | None, str | None]
"""That of the pass forward, and that of the pass backward; None for none."""
KERNELS = {"flash": "flash", "efficient": "efficient", "cudnn": "cudnn", "overrideable": "vendor", "math": "math"}
"""What stands in an operator's name, and what we call it."""


def kernels(run: Callable[[], object]) -> Kernels:
    """Those that ran; none where the library's attention was not asked for.

    "math" is none of the fast ones: the library's own implementation of the definition, which holds all the weights,
    and has no kernel of its own backward.
    """
    with silenced(), profile(activities=[ProfilerActivity.CPU]) as seen:
        run()
    names = [event.name for event in seen.events() or [] if event.name.startswith("aten::_scaled_dot_product_")]
    back = [name for name in names if name.endswith("_backward")]
    return kernel(name for name in names if name not in back), kernel(back)


def kernel(names: Iterable[str]) -> str | None:
    """The first that is known by a name."""
    return next((word for name in names for key, word in KERNELS.items() if key in name), None)


@contextmanager
def silenced() -> Iterator[None]:
    """Nothing is written on the standard error, not by a library either: the profiler tells of its every step."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
