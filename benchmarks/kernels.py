"""Which of the library's attention kernels really ran: seen as they are called, not guessed from what was asked for."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

KERNELS = {"flash": "flash", "efficient": "efficient", "cudnn": "cudnn", "overrideable": "vendor", "math": "math"}
"""What stands in an operator's name, and what we call it."""


class Calls(TorchFunctionMode):
    """Notices whether the library's attention was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.asked |= getattr(func, "__name__", "") == "scaled_dot_product_attention"
        return func(*args, **(kwargs or {}))


class Operators(TorchDispatchMode):
    """Notices the names of the attention operators that ran."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().removeprefix("aten::")
        if name.startswith("_scaled_dot_product_"):
            self.names.append(name)
        return func(*args, **(kwargs or {}))


def kernels(run: Callable[[], object]) -> tuple[str | None, str | None]:
    """The kernel that ran forward and the one that ran backward; None where there was none.

    "math" is none of the fast ones: the library's own writing of the definition, which holds all the weights.
    """
    calls, operators = Calls(), Operators()
    with (
        suppress(NotImplementedError),
        calls,
        operators,
    ):  # some operators cannot be watched, and are no kernel of these
        run()
    back = kernel(name for name in operators.names if name.endswith("_backward"))
    forth = kernel(name for name in operators.names if not name.endswith("_backward"))
    return forth or ("math" if calls.asked else None), back


def kernel(names: Any) -> str | None:
    """The first that is known by a name."""
    return next((word for name in names for key, word in KERNELS.items() if key in name), None)
