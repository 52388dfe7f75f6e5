"""Laws of numbers: gradients stay finite, a smaller format stays near, what is saved is all there is."""

import copy
from typing import Any

import torch
from einops import reduce
from torch import Tensor, nn

from nanotx.errors import LawBroken
from nanotx.laws.equality import outputs_and_gradients, require_same_outcome
from nanotx.laws.values import require_close


def finite(layer: nn.Module, x: Tensor, seed: int = 0) -> None:
    """Outputs and all gradients are finite numbers, for an input of any scale, and for one that is zero.

    Args:
        layer: any module of a stream or of ids; nothing random in it.
        x: its input.
        seed: of the cotangent sent back from the outputs.

    Raises:
        LawBroken: what is not finite.
    """
    y, gradients = outputs_and_gradients(layer, x, seed)
    for name, tensor in {"outputs": y, **gradients}.items():
        if not bool(tensor.isfinite().all()):
            what = name if name == "outputs" else f"the gradient of {name}"
            raise LawBroken(
                f"finite: {what} is not, for an input of shape {tuple(x.shape)}, largest {x.abs().max():.3g}."
            )


def bf16_close(layer: nn.Module, x: Tensor, dtype: torch.dtype, tolerance: float = 0.05, seed: int = 0) -> None:
    """In a smaller format, by autocast as in training, outputs stay near those in float32, and so does the gradient.

    At each position the difference is measured beside the length of what is wanted, and the middle one of them counts:
    where a number is rounded across zero, a bend such as ReLU's, or a norm of next to nothing, rightly sends all
    elsewhere. The gradient is given ten times the room.

    Args:
        layer: any module of a stream; nothing random in it.
        x: its input, of ordinary scale.
        dtype: the smaller format.
        tolerance: how long the outputs' middle difference may be.
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
    """Cast to a smaller format, weights and all, a module stays near itself at every position, late ones as early ones.

    At each position the difference is measured beside the length of what is wanted. Of each stretch of positions the
    middle one counts, as in `near_in`. A stretch is also held to the first one: an error that grows with the position
    is one of places, not of rounding.

    Args:
        layer: a module of a stream or of ids, as it is in a model; nothing random in it.
        x: its input, of ordinary scale, several stretches long.
        dtype: the smaller format.
        tolerance: how long the middle difference of a stretch may be.
        growth: how many times that of the first stretch it may be.
        stretch: how many positions are looked at together.

    Raises:
        LawBroken: at which positions it differs, and by how much.
    """
    cast = copy.deepcopy(layer).to(dtype)
    with torch.no_grad():
        want = layer(x).double()
        got = cast(x.to(dtype) if x.is_floating_point() else x).double()
    lengths = want.norm(dim=-1).clamp(min=1e-6)
    away = reduce((got - want).norm(dim=-1) / lengths, "b t -> t", "max")
    middles = [float(one.median()) for one in away.split(stretch)]
    limit = min(tolerance, growth * max(middles[0], torch.finfo(dtype).eps / 2))
    for index, middle in enumerate(middles):
        if not middle <= (limit if index else tolerance):
            first, last = index * stretch, min((index + 1) * stretch, x.shape[1]) - 1
            raise LawBroken(
                f"cast_close: in {str(dtype).removeprefix('torch.')} the outputs at positions {first} to {last} differ "
                f"by {middle:.3g} of their length, more than {limit:.3g}; at the first {stretch} by {middles[0]:.3g}."
            )


def state_complete(one: nn.Module, other: nn.Module, x: Tensor, tolerance: float = 1e-6) -> None:
    """A module that loads the state of another becomes it: nothing that it learns or draws lies outside its state.

    Args:
        one: a module; nothing random in it.
        other: the same with other weights; it is given those of the first.
        x: the input of both.
        tolerance: by how much numbers may differ, relative to the largest (or 1).

    Raises:
        LawBroken: how the two still differ.
    """
    other.load_state_dict({name: tensor.clone() for name, tensor in one.state_dict().items()})
    with torch.no_grad():
        require_close("state_complete", other(x), one(x), tolerance, "outputs with the same state")


def compile_agrees(layer: nn.Module, x: Tensor, tolerance: float = 1e-4, seed: int = 0) -> None:
    """Compiled by torch.compile, a module gives the same outputs and gradients.

    Args:
        layer: any module; nothing random in it.
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
    """An input of another scale comes out the same.

    Args:
        layer: a norm that says so of itself.
        x: its input, of ordinary scale.
        factor: what the input is multiplied by.
        tolerance: by how much numbers may differ, relative to the largest (or 1).

    Raises:
        LawBroken: where the two differ, and by how much.
    """
    if not factor > 0:
        raise LawBroken(f"scale_invariant: expected a factor above 0, got {factor}.")
    with torch.no_grad():
        require_close("scale_invariant", layer(x * factor), layer(x), tolerance, f"an input times {factor:g}")
