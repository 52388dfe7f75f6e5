"""NaN and infinity in training: which tensors contain them, and where they arose.

A step is a pure function of its number, the weights and the text, and a step whose gradient is refused has changed no
weight: so it can be repeated under observation, and training costs nothing extra until then.
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
"""The most tensors or windows that a message names."""


def report(model: nn.Module, retake: Callable[[], object], *, detect: bool) -> str:
    """Return a message that names the tensors that are not finite, and where the first such number arose.

    Args:
        model: its gradients are those of the step, and its weights are as they were before it.
        retake: computes the step's gradient again.
        detect: whether to name the operation in addition to the module.
    """
    names = [name for name, param in model.named_parameters() if not finite(param.grad)]
    nonfinite_weights = [name for name, param in model.named_parameters() if not finite(param)]
    if nonfinite_weights:
        return f"The weights themselves are not finite: {listed(nonfinite_weights)}."
    model.zero_grad(set_to_none=True)
    operations = Operations()
    eager, mode = torch.compiler.set_stance("force_eager"), operations if detect else nullcontext()
    with eager, watching(model) as places, mode, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that a hook on an embedding receives no input gradient
        retake()
    where = (
        f"It arose {places[0]}." if places else "No module output it: it arose in the loss or in the sum of gradients."
    )
    which = f"Not finite: the gradient of {listed(names) or 'nothing, the loss alone'}. {where}"
    if detect:
        return f"{which} The first operation that made it: {operations.first or 'not observed'}."
    return f"{which} --detect-anomaly names the operation."


def listed(names: Sequence[object]) -> str:
    """Return the first few of some names."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(map(str, names[:NAMED])) + more


def finite(tensor: Tensor | None) -> bool:
    """Return whether all numbers of a tensor are finite; True for None."""
    if tensor is None:
        return True
    values = tensor.coalesce().values() if tensor.is_sparse else tensor
    return bool(torch.isfinite(values).all())


@contextmanager
def watching(model: nn.Module) -> Iterator[list[str]]:
    """Record, inside this context, each module whose output or input gradient is not finite, the first one first."""
    places: list[str] = []

    def forward(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, outputs: Any) -> None:
            if not all(finite(tensor) for tensor in tensors(outputs)):
                places.append(f"in the output of {name} ({type(module).__name__})")

        return hook

    def backward(name: str) -> Any:
        def hook(module: nn.Module, grad_inputs: Any, grad_outputs: Any) -> None:
            received = all(finite(tensor) for tensor in tensors(grad_outputs))
            if received and not all(finite(tensor) for tensor in tensors(grad_inputs)):
                places.append(f"in the backward pass of {name} ({type(module).__name__})")

        return hook

    with ExitStack() as hooks:
        for name, module in model.named_modules():
            hooks.callback(module.register_forward_hook(forward(name or "the model")).remove)
            hooks.callback(module.register_full_backward_hook(backward(name or "the model")).remove)
        yield places


class Operations(TorchDispatchMode):
    """Context that records the first operation whose output has NaN or +infinity and whose inputs have none.

    Minus infinity is ignored, as masks contain it.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.first = ""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outputs = func(*args, **(kwargs or {}))
        if (
            not self.first
            and any(has_nan_or_inf(tensor) for tensor in tensors(outputs))
            and not any(has_nan_or_inf(tensor) for tensor in tensors(args))
        ):
            lines = [line for line in traceback.extract_stack() if HOME in Path(line.filename).parents]
            lines = [line for line in lines if Path(line.filename) != Path(__file__)]
            place = f" in {Path(lines[-1].filename).relative_to(HOME.parent)}, line {lines[-1].lineno}" if lines else ""
            self.first = f"{func}{place}"
        return outputs


def has_nan_or_inf(tensor: Tensor) -> bool:
    """Return whether a tensor contains NaN or +infinity."""
    return bool((tensor.isnan() | tensor.isposinf()).any())


def tensors(values: Any) -> Iterator[Tensor]:
    """Yield the floating-point tensors of a module's inputs or outputs."""
    for value in values if isinstance(values, tuple | list) else [values]:
        if isinstance(value, Tensor) and value.is_floating_point():
            yield value
