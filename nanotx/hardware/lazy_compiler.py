"""Start without importing PyTorch's compiler, which takes 5 seconds and which a run that does not compile never needs.

PyTorch imports it at the first call of an optimizer, to exclude it from compilation, and for the initialisation of
weights on the meta device. Both imports are avoided by means that PyTorch does not promise to keep. If they stop
working, a start takes these seconds again, and nothing else changes: no number depends on them.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch.overrides import TorchFunctionMode

Method = TypeVar("Method", bound=Callable[..., Any])


def undecorated(method: Method) -> Method:
    """Return a method of a PyTorch optimizer without its decorators; the method itself if they hide what they wrap."""
    inner: Method = inspect.unwrap(method)
    return inner if inspect.isfunction(inner) and inner.__module__.startswith("torch.optim.") else method


@contextmanager
def meta_device() -> Iterator[None]:
    """Context in which modules are built on the meta device: without memory, and with weights not initialised."""
    with torch.device("meta"), SkipInit():
        yield


class SkipInit(TorchFunctionMode):
    """Context in which the functions of `torch.nn.init` return their tensor unchanged."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)
