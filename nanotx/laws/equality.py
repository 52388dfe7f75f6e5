"""Laws of equality: two ways to one function."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from nanotx.errors import LawBroken
from nanotx.layout import to_shared
from nanotx.past import Past


def time_prefix(layer: nn.Module, x: Tensor, cut: int, tolerance: float = 1e-5) -> None:
    """What comes out for a beginning is the beginning of what comes out.

    It compares values, so it sees leaks through detached or discrete paths too, and holds for ids of tokens.

    Args:
        layer: takes `b t` ids or a `b t d` stream; nothing random in it.
        x: its input.
        cut: the last position of the beginning.
        tolerance: by how much numbers may differ, relative to the largest; kernels sum in another order.

    Raises:
        LawBroken: where they differ, and by how much.
    """
    with torch.no_grad():
        _same("time_prefix", layer(x[:, : cut + 1]), layer(x)[:, : cut + 1], tolerance, f"cut {cut}")


def cache_agrees(layer: nn.Module, x: Tensor, cuts: Sequence[int], tolerance: float = 1e-5) -> None:
    """Read in pieces with a `Past`, a text gives what it gives at once.

    Args:
        layer: an attention, a block or a model; nothing random in it.
        x: its input, `b t` ids or a `b t d` stream.
        cuts: where each piece but the first begins, in rising order.
        tolerance: as in `time_prefix`.

    Raises:
        LawBroken: where the two differ, and by how much.
    """
    past = Past()
    edges = [0, *cuts, x.shape[1]]
    with torch.no_grad():
        pieces = [layer(x[:, start:end], past=past) for start, end in pairwise(edges)]
        _same("cache_agrees", torch.cat(pieces, dim=1), layer(x), tolerance, f"cuts {list(cuts)}")


def equivalent(one: nn.Module, other: nn.Module, x: Tensor, seed: int = 0, tolerance: float = 1e-4) -> None:
    """Two modules are one function: outputs agree, and the gradients of the input and of every parameter.

    Weights are compared in the layout in which they are shared (`nanotx.layout`).

    Args:
        one: a module; nothing random in it.
        other: another, with the same weights.
        x: the input of both.
        seed: of the cotangent sent back from the outputs.
        tolerance: by how much numbers may differ, relative to the largest.

    Raises:
        LawBroken: what differs, and by how much.
    """
    (y, gradients), (other_y, other_gradients) = (_outcome(module, x, seed) for module in (one, other))
    _same("equivalent", y, other_y, tolerance, "outputs")
    if gradients.keys() != other_gradients.keys():
        odd = sorted(gradients.keys() ^ other_gradients.keys())
        raise LawBroken(f"equivalent: only one of the two has the parameters {odd}.")
    for name, gradient in gradients.items():
        _same("equivalent", gradient, other_gradients[name], tolerance, f"gradient of {name}")


def _outcome(module: nn.Module, x: Tensor, seed: int) -> tuple[Tensor, dict[str, Tensor]]:
    """The outputs, and the gradients of a random weighting of them."""
    x = x.detach().clone()
    inputs = {"x": x.requires_grad_()} if x.is_floating_point() else {}
    y = module(x)
    cotangent = torch.randn(y.shape, generator=torch.Generator().manual_seed(seed)).to(y)
    named = dict(module.named_parameters())
    found = torch.autograd.grad(y, [*named.values(), *inputs.values()], cotangent)
    gradients = dict(zip([*named, *inputs], found, strict=True))
    x_gradient = {name: gradients.pop(name) for name in inputs}
    return y.detach(), to_shared(module, gradients) | x_gradient


def _same(law: str, got: Tensor, want: Tensor, tolerance: float, what: str) -> None:
    if got.shape != want.shape:
        raise LawBroken(f"{law}: {what}: shapes {tuple(got.shape)} and {tuple(want.shape)} differ.")
    difference = (got.double() - want.double()).abs()
    limit = tolerance * max(1.0, float(want.double().abs().max()))
    if not bool((difference <= limit).all()):
        where = tuple(int(index) for index in torch.unravel_index(difference.argmax(), difference.shape))
        raise LawBroken(f"{law}: {what}: at {where} they differ by {difference.max():.3g}, more than {limit:.3g}.")
