"""Whether this machine's memory can hold what is asked for: what would surely fill it is refused, before it is taken.

What is counted is the least that there will be, so nothing that fits is refused.
"""

from typing import Any

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


def check_step(plan: Any, model: Any, device: str) -> None:
    """Raise ConfigError where a training step takes more memory than there is.

    Args:
        plan: the recipe's `train`.
        model: the recipe's `model`.
        device: where it trains; what the model leaves behind elsewhere takes none of this memory.
    """
    rows = 1 if plan.micro_batch == "auto" else plan.batch // plan.parts
    ids = 2 * 8 * plan.batch * (model.context + 1)  # where each token stands, and which it is
    stream = 2 * rows * model.context * model.dim * model.layers * (device == "cpu")  # in bfloat16, the least there is
    remedy = f"--train.batch than {plan.batch}" if ids > stream else f"--train.micro-batch than {rows}"
    what = f"train: {plan.batch:,} windows of {model.context:,} tokens a step"
    check_room(what, ids + stream, f"a smaller {remedy}")
