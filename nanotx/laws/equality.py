"""Laws of equality: two implementations of one function agree."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from nanotx.errors import LawBroken
from nanotx.laws.values import cotangent, require_close
from nanotx.nn.canonical import to_canonical
from nanotx.nn.kv_cache import KVCache


def cache_agrees(
    layer: nn.Module, x: Tensor, cuts: Sequence[int], tolerance: float = 1e-5, lengths: Sequence[int] = ()
) -> None:
    """Raise LawBroken unless a text read in pieces with a `KVCache` has the same outputs as when it is read at once.

    Args:
        layer: an attention, a block or a model; deterministic.
        x: its input, `b t` ids or a `b t d` stream.
        cuts: the start of each piece but the first, ascending.
        tolerance: by how much numbers may differ, relative to the largest (or 1).
        lengths: of the rows, if they differ: each is padded on the right, and must have the outputs that it has alone.

    Raises:
        LawBroken: where the two differ, and by how much.
    """
    cache = KVCache()
    edges = [0, *cuts, x.shape[1]]
    with torch.no_grad():
        pieces = [layer(x[:, start:end], cache=cache) for start, end in pairwise(edges)]
        whole = torch.cat(pieces, dim=1)
        if not lengths:
            return require_close("cache_agrees", whole, layer(x), tolerance, f"cuts {list(cuts)}")
        for row, length in enumerate(lengths):
            want, details = layer(x[row : row + 1, :length])[0], f"cuts {list(cuts)}, row {row} of length {length}"
            require_close("cache_agrees", whole[row, :length], want, tolerance, details)


def equivalent(first: nn.Module, other: nn.Module, x: Tensor, seed: int = 0, tolerance: float = 1e-4) -> None:
    """Raise LawBroken unless two modules agree in outputs and in the gradients of the input and of every parameter.

    Weights are compared in the canonical layout (`nanotx.nn.canonical`).

    Args:
        first: a deterministic module.
        other: another module with the same weights.
        x: the input of both.
        seed: of the cotangent sent back from the outputs.
        tolerance: by how much numbers may differ, relative to the largest.

    Raises:
        LawBroken: what differs, and by how much.
    """
    (y, gradients), (other_y, other_gradients) = (outputs_and_gradients(module, x, seed) for module in (first, other))
    require_same_outcome(
        "equivalent", (y, to_canonical(first, gradients)), (other_y, to_canonical(other, other_gradients)), tolerance
    )


Outcome = tuple[Tensor, Mapping[str, Tensor]]
"""Outputs; and gradients of the parameters by name, and of a stream under "x"."""


def require_same_outcome(law: str, got: Outcome, want: Outcome, tolerance: float) -> None:
    """Raise LawBroken unless two outcomes agree; the message names the output or gradient that does not."""
    require_close(law, got[0], want[0], tolerance, "outputs")
    if got[1].keys() != want[1].keys():
        raise LawBroken(f"{law}: only one of the two has the parameters {sorted(got[1].keys() ^ want[1].keys())}.")
    for name, gradient in got[1].items():
        require_close(law, gradient, want[1][name], tolerance, f"gradient of {name}")


def outputs_and_gradients(module: nn.Module, x: Tensor, seed: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the outputs of a module, and the gradients of a random weighting of them; zeros where none arrives."""
    x = x.detach().clone()
    leaves = dict(module.named_parameters()) | ({"x": x.requires_grad_()} if x.is_floating_point() else {})
    y = module(x)
    gradients = torch.autograd.grad(
        y, list(leaves.values()), cotangent(y.shape, seed).to(y), allow_unused=True, materialize_grads=True
    )
    return y.detach(), dict(zip(leaves, gradients, strict=True))
