"""Whether this machine's memory can hold what is asked for: what would surely fill it is refused, before it is taken.

What is counted is the least that there will be, so nothing that fits is refused.
"""

from nanotx.errors import ConfigError
from nanotx.limits import memory

GIB = 2**30


def check_room(what: str, size: int, remedy: str) -> None:
    """Raise ConfigError where something takes more bytes than this process can still have.

    Args:
        what: names it.
        size: the bytes it takes at least.
        remedy: what to try instead.
    """
    found = memory()  # None where the system does not say
    if found is not None and size > found.available:
        raise ConfigError(
            f"{what} take at least {size / GIB:,.1f} GiB, and {found.available / GIB:,.1f} GiB of memory are free; "
            f"try {remedy}."
        )


def check_step(batch: int, rows: int, context: int, kept: int) -> None:
    """Raise ConfigError where a training step takes more memory than there is.

    Args:
        batch: its windows.
        rows: how many of them go through the model at once.
        context: tokens of a window.
        kept: numbers that a token leaves behind in each of the layers for the way back; 0 on another device's memory.
    """
    ids = 2 * 8 * batch * (context + 1)  # where each token stands, and which it is
    stream = 2 * rows * context * kept  # in bfloat16, as small as there is
    remedy = f"a smaller --train.batch than {batch}" if ids > stream else f"a smaller --train.micro-batch than {rows}"
    check_room(f"train: {batch:,} windows of {context:,} tokens a step", ids + stream, remedy)
