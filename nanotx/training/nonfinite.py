"""Numbers that are no longer finite: which they are, and where they arose.

A step is a pure function of its number, the weights and the text, and a step whose gradient is refused has moved no
weight: so it can be taken again under observation, which costs nothing before it is needed.
"""

import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

HOME = Path(__file__).parents[1]
NAMED = 3
"""How many tensors or windows are named, of however many."""


def report(model: nn.Module, retake: Callable[[], object], *, detect: bool) -> str:
    """Which tensors are not finite, and where the first such number arose.

    Args:
        model: its gradients are those of the step, and its weights are as they were before it.
        retake: takes the step's gradient again.
        detect: whether the operation is named, and not the module alone.
    """
    names = [name for name, one in model.named_parameters() if not finite(one.grad)]
    nonfinite_weights = [name for name, one in model.named_parameters() if not finite(one)]
    if nonfinite_weights:
        return f"The weights themselves are not finite: {listed(nonfinite_weights)}."
    model.zero_grad(set_to_none=True)
    operations = Operations()
    eager, looking = torch.compiler.set_stance("force_eager"), operations if detect else nullcontext()
    with eager, watching(model) as seen, looking, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says of a hook on an embedding that nothing is sent back through it
        retake()
    where = f"It arose {seen[0]}." if seen else "No module gave it: it arose in the loss or in the sum of gradients."
    which = f"Not finite: the gradient of {listed(names) or 'nothing, the loss alone'}. {where}"
    if detect:
        return f"{which} The first operation that made it: {operations.first or 'none that is seen here'}."
    return f"{which} --detect-anomaly names the operation."


def listed(names: Sequence[object]) -> str:
    """Return the first few of some names."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(map(str, names[:NAMED])) + more


def finite(tensor: Tensor | None) -> bool:
    """Return whether a tensor, if there is one, holds finite numbers alone."""
    if tensor is None:
        return True
    values = tensor.coalesce().values() if tensor.is_sparse else tensor
    return bool(torch.isfinite(values).all())


@contextmanager
def watching(model: nn.Module) -> Iterator[list[str]]:
    """Within, what a module gives that is not finite is noted, and so is what it sends back; the first comes first."""
    seen: list[str] = []

    def forward(name: str) -> Any:
        def look(module: nn.Module, given: Any, made: Any) -> None:
            if not all(finite(one) for one in tensors(made)):
                seen.append(f"in what {name} ({type(module).__name__}) makes of its input")

        return look

    def backward(name: str) -> Any:
        def look(module: nn.Module, sent: Any, received: Any) -> None:
            if not all(finite(one) for one in tensors(sent)) and all(finite(one) for one in tensors(received)):
                seen.append(f"in what {name} ({type(module).__name__}) sends back")

        return look

    with ExitStack() as hooks:
        for name, module in model.named_modules():
            hooks.callback(module.register_forward_hook(forward(name or "the model")).remove)
            hooks.callback(module.register_full_backward_hook(backward(name or "the model")).remove)
        yield seen


class Operations(TorchDispatchMode):
    """Within, the first operation is noted that makes NaN or infinity of what had none; masks are minus infinity."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.first = ""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if (
            not self.first
            and any(has_nan_or_inf(one) for one in tensors(made))
            and not any(has_nan_or_inf(one) for one in tensors(args))
        ):
            ours = [line for line in traceback.extract_stack() if HOME in Path(line.filename).parents]
            ours = [line for line in ours if Path(line.filename) != Path(__file__)]
            place = f" in {Path(ours[-1].filename).relative_to(HOME.parent)}, line {ours[-1].lineno}" if ours else ""
            self.first = f"{func}{place}"
        return made


def has_nan_or_inf(tensor: Tensor) -> bool:
    """Return whether NaN or infinity above is in it."""
    return bool((tensor.isnan() | tensor.isposinf()).any())


def tensors(made: Any) -> Iterator[Tensor]:
    """Yield the tensors of floating-point numbers in what a module gives."""
    for one in made if isinstance(made, tuple | list) else [made]:
        if isinstance(one, Tensor) and one.is_floating_point():
            yield one
