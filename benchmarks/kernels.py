"""Which of the library's attention kernels really ran: seen when it runs, not guessed from what was asked for."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

Kernels = tuple[str | None, str | None]
"""That of the pass forward, and that of the pass backward; None for none."""
KERNELS = {"flash": "flash", "efficient": "efficient", "cudnn": "cudnn", "overrideable": "vendor", "math": "math"}
"""What stands in an operator's name, and what we call it."""
ASKING = ("scaled_dot_product_attention", "multi_head_attention_forward")
"""The functions that call one of them."""


class Calls(TorchFunctionMode):
    """Notices whether the library's attention is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.asked |= getattr(func, "__name__", "") in ASKING
        return func(*args, **(kwargs or {}))


class Operators(TorchDispatchMode):
    """Notices the names of the attention operators that run."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().removeprefix("aten::")
        if name.startswith("_scaled_dot_product_"):
            self.names.append(name)
        return func(*args, **(kwargs or {}))


def asks(run: Callable[[], object]) -> bool:
    """Whether this, which is not compiled, asks for the library's attention."""
    calls = Calls()
    try:
        with calls:
            run()
    except Exception:  # what compiles itself may not bear to be watched, and is no kernel of these
        torch.compiler.reset()
    return calls.asked


def kernels(run: Callable[[], object]) -> Kernels:
    """The kernels that ran, of something that asks for one.

    "math" is none of the fast ones: the library's own writing of the definition, which holds all the weights.
    """
    operators = Operators()
    with operators:
        run()
    back = kernel(name for name in operators.names if name.endswith("_backward"))
    forth = kernel(name for name in operators.names if not name.endswith("_backward"))
    return forth or "math", back


def kernel(names: Iterable[str]) -> str | None:
    """The first that is known by a name."""
    return next((word for name in names for key, word in KERNELS.items() if key in name), None)
