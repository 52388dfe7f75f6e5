"""Laws of numbers: gradients stay finite, lower precision stays close, and the saved state is complete."""

import copy
from typing import Any

import torch
from einops import reduce
from torch import Tensor, nn

from nanotx.errors import LawBroken
from nanotx.laws.equality import outputs_and_gradients, require_same_outcome
from nanotx.laws.values import require_close


def finite(layer: nn.Module, x: Tensor, seed: int = 0) -> None:
    """Raise LawBroken unless outputs and all gradients are finite, for an input of any scale and for an input of zeros.

    Args:
        layer: any module of a stream or of ids; deterministic.
        x: its input.
        seed: of the cotangent sent back from the outputs.

    Raises:
        LawBroken: an output or a gradient is not finite; the message says which.
    """
    y, gradients = outputs_and_gradients(layer, x, seed)
    for name, tensor in {"outputs": y, **gradients}.items():
        if not bool(tensor.isfinite().all()):
            what = name if name == "outputs" else f"the gradient of {name}"
            raise LawBroken(
                f"finite: {what} is not, for an input of shape {tuple(x.shape)}, largest {x.abs().max():.3g}."
            )


def bf16_close(layer: nn.Module, x: Tensor, dtype: torch.dtype, tolerance: float = 0.05, seed: int = 0) -> None:
    """Raise LawBroken unless outputs and gradient under autocast, as in training, are close to those in float32.

    At each position the norm of the difference is divided by the norm of the expected value, and the median over the
    positions counts: where a number is rounded across zero, a kink such as ReLU's, or the normalisation of a tiny
    vector, may rightly change everything. The tolerance of the gradient is ten times that of the outputs.

    Args:
        layer: any module of a stream; deterministic.
        x: its input, of ordinary scale.
        dtype: the lower precision.
        tolerance: the largest median difference of the outputs.
        seed: of the cotangent sent back from the outputs.

    Raises:
        LawBroken: what differs, and by how much.
    """
    y, gradients = outputs_and_gradients(layer, x, seed)
    with torch.autocast(x.device.type, dtype=dtype):
        small_y, small_gradients = outputs_and_gradients(layer, x, seed)
    pairs = {"outputs": (small_y, y, 1), "the input's gradient": (small_gradients["x"], gradients["x"], 10)}
    for what, (got, want, room) in pairs.items():
        lengths = want.double().norm(dim=-1).clamp(min=1e-6)
        away = float(((got.double() - want.double()).norm(dim=-1) / lengths).median())
        if not away <= room * tolerance:
            name = str(dtype).removeprefix("torch.")
            raise LawBroken(
                f"bf16_close: {what} in {name} differ by {away:.3g} of their length, more than {room * tolerance:g}."
            )


def cast_close(
    layer: nn.Module, x: Tensor, dtype: torch.dtype, tolerance: float = 0.05, growth: float = 3.0, stretch: int = 64
) -> None:
    """Raise LawBroken unless a module cast to a lower precision, weights too, stays close at late and early positions.

    At each position the norm of the difference is divided by the norm of the expected value. The median of each
    segment of positions counts, as in `bf16_close`. A segment is also compared with the first one: an error that grows
    with the position comes from the positions, not from rounding.

    Args:
        layer: a module of a stream or of ids, as it is in a model; deterministic.
        x: its input, of ordinary scale, several segments long.
        dtype: the lower precision.
        tolerance: the largest median difference of a segment.
        growth: the largest ratio of it to that of the first segment.
        stretch: positions per segment.

    Raises:
        LawBroken: the outputs differ; the message says at which positions, and by how much.
    """
    cast = copy.deepcopy(layer).to(dtype)
    with torch.no_grad():
        want = layer(x).double()
        got = cast(x.to(dtype) if x.is_floating_point() else x).double()
    lengths = want.norm(dim=-1).clamp(min=1e-6)
    away = reduce((got - want).norm(dim=-1) / lengths, "b t -> t", "max")
    middles = [float(segment.median()) for segment in away.split(stretch)]
    limit = min(tolerance, growth * max(middles[0], torch.finfo(dtype).eps / 2))
    for index, middle in enumerate(middles):
        if not middle <= (limit if index else tolerance):
            first, last = index * stretch, min((index + 1) * stretch, x.shape[1]) - 1
            raise LawBroken(
                f"cast_close: in {str(dtype).removeprefix('torch.')} the outputs at positions {first} to {last} differ "
                f"by {middle:.3g} of their length, more than {limit:.3g}; at the first {stretch} by {middles[0]:.3g}."
            )


def state_complete(first: nn.Module, other: nn.Module, x: Tensor, tolerance: float = 1e-6) -> None:
    """Raise LawBroken unless a module that loads the state dict of another has the same outputs.

    Args:
        first: a deterministic module.
        other: the same with other weights; it loads those of the first.
        x: the input of both.
        tolerance: by how much numbers may differ, relative to the largest (or 1).

    Raises:
        LawBroken: the two still differ; the message says where, and by how much.
    """
    other.load_state_dict({name: tensor.clone() for name, tensor in first.state_dict().items()})
    with torch.no_grad():
        require_close("state_complete", other(x), first(x), tolerance, "outputs with the same state")


def compile_agrees(layer: nn.Module, x: Tensor, tolerance: float = 1e-4, seed: int = 0) -> None:
    """Raise LawBroken unless a module compiled by torch.compile has the same outputs and gradients.

    Args:
        layer: any module; deterministic.
        x: its input.
        tolerance: by how much numbers may differ, relative to the largest (or 1).
        seed: of the cotangent sent back from the outputs.

    Raises:
        LawBroken: what differs, and by how much.
    """
    want = outputs_and_gradients(layer, x, seed)
    compiled: Any = torch.compile(layer)
    y, gradients = outputs_and_gradients(compiled, x, seed)
    plain = {name.removeprefix("_orig_mod."): gradient for name, gradient in gradients.items()}
    require_same_outcome("compile_agrees", (y, plain), want, tolerance)


def scale_invariant(layer: nn.Module, x: Tensor, factor: float, tolerance: float = 1e-3) -> None:
    """Raise LawBroken unless scaling the input leaves the outputs the same.

    Args:
        layer: a norm that declares itself scale-invariant.
        x: its input, of ordinary scale.
        factor: the scale.
        tolerance: by how much numbers may differ, relative to the largest (or 1).

    Raises:
        LawBroken: where the two differ, and by how much.
    """
    if not factor > 0:
        raise LawBroken(f"scale_invariant: expected a factor above 0, got {factor}.")
    with torch.no_grad():
        require_close("scale_invariant", layer(x * factor), layer(x), tolerance, f"an input times {factor:g}")
