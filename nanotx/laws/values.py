"""Laws of values: neither other rows of a batch nor later tokens change an output."""

from collections.abc import Callable, Sequence

import torch
from einops import rearrange, reduce, repeat
from torch import Tensor

from nanotx.errors import LawBroken

Layer = Callable[[Tensor], Tensor]


def batch_independent(layer: Layer, x: Tensor, seed: int = 0, tolerance: float = 1e-5) -> None:
    """Raise LawBroken unless the outputs of a batch row are the same whatever the other rows are.

    Args:
        layer: takes `b t` ids or a `b t d` stream; deterministic.
        x: its input.
        seed: of the replacements of the other rows.
        tolerance: by how much numbers may differ, relative to the largest (or 1).

    Raises:
        LawBroken: a row changed; the message says which, and by how much.
    """
    with torch.no_grad():
        y, others = layer(x), another_input(x, seed)
        for row in range(len(x)):
            mixed = others.clone()
            mixed[row] = x[row]
            require_close(
                "batch_independent", layer(mixed)[row], y[row], tolerance, f"row {row} beside other rows, seed {seed}"
            )


def time_prefix(layer: Layer, x: Tensor, cut: int, tolerance: float = 1e-5) -> None:
    """Raise LawBroken unless the outputs of a prefix are the prefix of the outputs.

    It compares values, so it also sees leaks through detached or discrete paths, and applies to token ids too.

    Args:
        layer: takes `b t` ids or a `b t d` stream; deterministic.
        x: its input.
        cut: the last position of the prefix.
        tolerance: by how much numbers may differ, relative to the largest (or 1); kernels sum in another order.

    Raises:
        LawBroken: where they differ, and by how much.
    """
    with torch.no_grad():
        require_close("time_prefix", layer(x[:, : cut + 1]), layer(x)[:, : cut + 1], tolerance, f"cut {cut}")


def right_padding(layer: Layer, x: Tensor, padding: Tensor, tolerance: float = 1e-5) -> None:
    """Raise LawBroken unless the outputs of a text are the same whatever padding follows it, from any position on.

    Every prefix of the text is checked at once, each in batch rows of its own.

    Args:
        layer: takes `b t` ids or a `b t d` stream; deterministic.
        x: its input.
        padding: replaces the end of the text; of the shape of `x`.
        tolerance: by how much numbers may differ, relative to the largest (or 1).

    Raises:
        LawBroken: where the outputs differ, and by how much.
    """
    batch, time = x.shape[:2]
    at = torch.arange(time, device=x.device)
    prefix = rearrange(at, "t -> 1 t") <= rearrange(at, "c -> c 1")
    prefix = repeat(prefix, "c t -> (c b) t", b=batch)
    mask = prefix if x.ndim == 2 else rearrange(prefix, "c t -> c t 1")
    many = repeat(x, "b ... -> (c b) ...", c=time)
    padded = torch.where(mask, many, repeat(padding, "b ... -> (c b) ...", c=time))
    with torch.no_grad():
        padded_y, y = layer(padded), layer(many)
    changed = ((padded_y - y).abs() * rearrange(prefix, "c t -> c t 1")).float()
    limit = tolerance * max(1.0, float(y.abs().max()))
    if not bool((changed <= limit).all()):
        row, position, _ = (int(index) for index in torch.unravel_index(changed.argmax(), changed.shape))
        raise LawBroken(
            f"right_padding: padding after position {row // batch} changes the output at {position} by "
            f"{changed.max():.3g}, more than {limit:.3g}; input of shape {tuple(x.shape)}."
        )


def position_wise(layer: Layer, x: Tensor, tolerance: float = 1e-5) -> None:
    """Raise LawBroken unless each position has the output that it has alone.

    Args:
        layer: from `b t d` to `b t d`; deterministic.
        x: its input.
        tolerance: by how much numbers may differ, relative to the largest (or 1).

    Raises:
        LawBroken: a position differs; the message says which, and by how much.
    """
    with torch.no_grad():
        one_by_one = layer(rearrange(x, "b t d -> (b t) 1 d"))
        require_close(
            "position_wise",
            rearrange(one_by_one, "(b t) 1 d -> b t d", b=len(x)),
            layer(x),
            tolerance,
            "(row, position, axis)",
        )


def another_input(x: Tensor, seed: int) -> Tensor:
    """Return another input of the same kind: ids up to the largest one, or a stream of the same scale."""
    generator = torch.Generator().manual_seed(seed)
    if x.is_floating_point():
        return torch.randn(x.shape, generator=generator).to(x) * x.std(correction=0)
    return torch.randint(int(x.max()) + 1, x.shape, generator=generator).to(x)


def require_close(law: str, got: Tensor, want: Tensor, tolerance: float, what: str) -> None:
    """Raise LawBroken unless two tensors agree up to a tolerance, relative to the largest expected number (or 1)."""
    if got.shape != want.shape:
        raise LawBroken(f"{law}: {what}: shapes {tuple(got.shape)} and {tuple(want.shape)} differ.")
    difference = (got.double() - want.double()).abs()
    limit = tolerance * max(1.0, float(want.double().abs().max()))
    if not bool((difference <= limit).all()):
        where = tuple(int(index) for index in torch.unravel_index(difference.argmax(), difference.shape))
        raise LawBroken(f"{law}: {what}: at {where} they differ by {difference.max():.3g}, more than {limit:.3g}.")


def cotangent(shape: Sequence[int], seed: int) -> Tensor:
    """Return a random weighting of outputs, drawn from other numbers than an input of the same shape and seed."""
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed + 1_000_003))


def influence_by_value(layer: Layer, x: Tensor, seed: int = 0) -> Tensor:
    """Return the influence by values: how much output `t` changes when only input `s` is replaced.

    Args:
        layer: takes `b t` ids or a `b t d` stream; deterministic.
        x: its input.
        seed: of the replacement.

    Returns:
        The largest change, as `t s`.
    """
    time = x.shape[1]
    at = torch.eye(time, dtype=torch.bool, device=x.device)
    mask = repeat(at, "s t -> (s b) t" if x.ndim == 2 else "s t -> (s b) t 1", b=len(x))
    many = repeat(x, "b ... -> (s b) ...", s=time)
    with torch.no_grad():
        y, other = (
            layer(many),
            layer(torch.where(mask, repeat(another_input(x, seed), "b ... -> (s b) ...", s=time), many)),
        )
    return reduce((other - y).abs().float(), "(s b) t d -> t s", "max", b=len(x)).cpu()
