"""Models of ours and of transformers in float64 throughout, where a wrong formula is no matter of rounding."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from nanotx.nn.transformer import Transformer

NARROW = (torch.float32, torch.float16, torch.bfloat16)


class Float64(TorchDispatchMode):
    """Context in which code that casts to float32, as norms and softmax of transformers do, stays in float64.

    Raises:
        AssertionError: an operation has a result in fewer bits all the same; the message names it.
    """

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        args, kwargs = tree_map(widened_dtype, (args, dict(kwargs or {})))
        result = func(*args, **kwargs)
        narrow = [x.dtype for x in tree_leaves(result) if isinstance(x, torch.Tensor) and x.dtype in NARROW]
        assert not narrow, f"{func}: a result in {narrow[0]}"
        return result


def widened_dtype(value: Any) -> Any:
    """Return float64 for float32, and any other value as it is."""
    return torch.float64 if value is torch.float32 else value


@contextmanager
def in_float64() -> Iterator[None]:
    """Context in which models of transformers are built and computed in float64, their constants included."""
    with float64_by_default(), Float64():
        yield


@contextmanager
def float64_by_default() -> Iterator[None]:
    """Context in which new tensors are in float64."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def widened(model: Transformer) -> Transformer:
    """Return a model with the same weights in float64, its constants computed in float64 rather than cast."""
    with float64_by_default():
        wide = model.config.build(model.vocab_size)
    wide.load_state_dict(model.state_dict())
    assert not [x for x in (*wide.parameters(), *wide.buffers()) if x.dtype in NARROW]
    return wide.eval()
