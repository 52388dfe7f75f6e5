"""Laws of positions: what they add or rotate is a function of a token's position, and of nothing else."""

import copy

import torch
from einops import einsum, reduce
from jaxtyping import Float
from torch import Tensor

from nanotx.errors import LawBroken
from nanotx.laws.values import require_close
from nanotx.nn.position import PositionalEncoding
from nanotx.nn.shapes import Stream

Heads = Float[Tensor, "b h t k"]


@torch.no_grad()
def local(position: PositionalEncoding, x: Stream, q: Heads, start: int, tolerance: float = 1e-5) -> None:
    """Raise LawBroken unless a token at its position is treated the same in a whole text and in the end of it alone.

    Args:
        position: the module.
        x: a stream.
        q: queries (or keys) of the same positions.
        start: where the end of the text begins.
        tolerance: by how much numbers may differ, relative to the largest (or 1).

    Raises:
        LawBroken: the embedding, queries, keys or the bias differ; the message says which.
    """
    positions = torch.arange(x.shape[1])
    end = positions[start:]
    require_close(
        "local", position.embed(x[:, start:], end), position.embed(x, positions)[:, start:], tolerance, "embedding"
    )
    whole, part = (
        position.rotate(q, q.flip(-1), positions),
        position.rotate(q[..., start:, :], q.flip(-1)[..., start:, :], end),
    )
    for name, got, want in zip(("queries", "keys"), part, whole, strict=True):
        require_close("local", got, want[..., start:, :], tolerance, name)
    biases = position.bias(end, positions), position.bias(positions, positions)
    if biases[0] is not None and biases[1] is not None:
        require_close("local", biases[0], biases[1][:, start:], tolerance, "bias")


@torch.no_grad()
def relative(position: PositionalEncoding, q: Heads, k: Heads, shift: int, tolerance: float = 1e-3) -> None:
    """Raise LawBroken unless the scores of queries and keys depend on their distance, and not on their positions.

    Args:
        position: the module.
        q: queries.
        k: keys of the same positions.
        shift: the number of positions by which all are moved.
        tolerance: by how much numbers may differ, relative to the largest (or 1).

    Raises:
        LawBroken: scores differ; the message says which, and by how much.
    """
    positions = torch.arange(q.shape[-2])
    near, far = (scores(position, q, k, positions + moved) for moved in (0, shift))
    require_close("relative", far, near, tolerance, f"scores {shift} positions on, (row, head, query, key)")


@torch.no_grad()
def norm_preserving(position: PositionalEncoding, q: Heads, shift: int, tolerance: float = 1e-4) -> None:
    """Raise LawBroken unless rotation keeps the norm of queries and keys, up to the `attention_scale` of the position.

    Args:
        position: the module.
        q: queries (or keys).
        shift: the position of the first.
        tolerance: by how much norms may differ, relative to the largest (or 1).

    Raises:
        LawBroken: a norm changed; the message says which, and by how much.
    """
    for name, turned in zip(("queries", "keys"), position.rotate(q, q, torch.arange(q.shape[-2]) + shift), strict=True):
        wanted = position.attention_scale * q.norm(dim=-1)
        require_close("norm_preserving", turned.norm(dim=-1), wanted, tolerance, f"{name}, (row, head, position)")


@torch.no_grad()
def informative(position: PositionalEncoding, x: Stream, q: Heads, k: Heads) -> None:
    """Raise LawBroken unless the position changes some embedding or score; one without effect encodes nothing.

    Raises:
        LawBroken: no embedding and no score is changed.
    """
    positions = torch.arange(x.shape[1])
    embedded = not torch.equal(position.embed(x, positions), x)
    scored = not torch.allclose(scores(position, q, k, positions), einsum(q, k, "b h t k, b h s k -> b h t s"))
    if not embedded and not scored:
        raise LawBroken(f"informative: for {x.shape[1]} positions, neither an embedding nor a score is changed.")


@torch.no_grad()
def distinct(position: PositionalEncoding, other: PositionalEncoding, x: Stream, q: Heads, positions: Tensor) -> None:
    """Raise LawBroken unless two positions with different fields encode differently, and neither changes the other.

    A table shared by all instances, whose key omits a field, gives one of them the table of another.

    Args:
        position: the module.
        other: one whose config differs in a field on which the encoding depends.
        x: a stream.
        q: queries.
        positions: their positions.

    Raises:
        LawBroken: both have the same encoding.
    """
    first = position.embed(x, positions), position.rotate(q, q, positions)[0], position.bias(positions, positions)
    second = other.embed(x, positions), other.rotate(q, q, positions)[0], other.bias(positions, positions)
    if all(
        a is b or (a is not None and b is not None and torch.equal(a, b)) for a, b in zip(first, second, strict=True)
    ):
        raise LawBroken(f"distinct: with other fields, all of {tuple(x.shape)} is placed as without them.")


@torch.no_grad()
def out_of_range(position: PositionalEncoding, x: Stream, context: int) -> None:
    """Raise LawBroken unless a position beyond a table raises IndexError or is distinct from every other position.

    Args:
        position: the module, built for a `context`.
        x: a stream of one position.
        context: the number of positions that it was built for.

    Raises:
        LawBroken: it is treated as another position; the message says which.
    """
    try:
        beyond = position.embed(x, torch.tensor([context]))
    except IndexError:
        return
    for at in range(context):
        if not torch.equal(beyond, x) and torch.equal(beyond, position.embed(x, torch.tensor([at]))):
            raise LawBroken(f"out_of_range: position {context}, beyond a context of {context}, is given place {at}.")


@torch.no_grad()
def shift_invariant(position: PositionalEncoding, x: Stream, q: Heads, k: Heads, shift: int) -> None:
    """Raise LawBroken unless a position that states `relative` is invariant to shifting all tokens, however far.

    Args:
        position: the module.
        x: a stream.
        q: queries of the same positions.
        k: keys of the same positions.
        shift: the number of positions by which all are moved, beyond the context too.

    Raises:
        LawBroken: an output differs (the message says which, and by how much), or the shifted position is refused.
    """
    positions, what = torch.arange(x.shape[1]), f"{shift} positions on"
    tolerance = 1e-3 + 8 * shift * 2**-24  # an angle has 24 bits, of which the full turns take some
    try:
        require_close(
            "shift_invariant",
            position.embed(x, positions + shift),
            position.embed(x, positions),
            tolerance,
            f"embedding {what}",
        )
        near, far = (scores(position, q, k, positions + moved) for moved in (0, shift))
    except IndexError:
        raise LawBroken(f"shift_invariant: it states `relative`, and has no place {what}.") from None
    require_close("shift_invariant", far, near, tolerance, f"scores {what}, (row, head, query, key)")


@torch.no_grad()
def adds_bias(position: PositionalEncoding, adds_bias: bool, positions: Tensor) -> None:
    """Raise LawBroken unless a position adds to the scores exactly if it states `adds_bias`.

    Raises:
        LawBroken: it adds without stating it, or states it without adding; the message says which.
    """
    adds = position.bias(positions, positions) is not None
    if adds != adds_bias:
        raise LawBroken(
            f"adds_bias: it states adds_bias = {adds_bias}, and {'adds' if adds else 'never adds'} to scores."
        )


@torch.no_grad()
def positions_survive_cast(
    position: PositionalEncoding, x: Stream, q: Heads, dtype: torch.dtype, queries: int = 8
) -> None:
    """Raise LawBroken unless a position cast to a lower precision encodes every position as before, up to one rounding.

    Args:
        position: the module.
        x: a stream, of as many positions as are checked.
        q: queries of the same positions; keys are the same.
        dtype: the lower precision.
        queries: the number of positions, evenly spread up to the last one, whose bias is checked.

    Raises:
        LawBroken: an encoding differs; the message gives the first position, in what, and by how much.
    """
    cast, name = copy.deepcopy(position).to(dtype), str(dtype).removeprefix("torch.")
    x, q, positions = x.to(dtype), q.to(dtype), torch.arange(x.shape[1])
    sampled = positions.flip(0)[:: max(1, len(positions) // queries)]
    some = {
        "the embedding": (cast.embed(x, positions), position.embed(x.float(), positions)),
        "queries": (cast.rotate(q, q, positions)[0], position.rotate(q.float(), q.float(), positions)[0]),
        "keys": (cast.rotate(q, q, positions)[1], position.rotate(q.float(), q.float(), positions)[1]),
        "the bias": (cast.bias(sampled, positions), position.bias(sampled, positions)),
    }
    for what, (got, want) in some.items():
        if got is None or want is None:
            continue
        scale = want.double().abs() if what == "the bias" else want.double().norm(dim=-1, keepdim=True)
        away = ((got.double() - want.double()).abs() / scale.clamp(min=1)).nan_to_num(torch.inf)
        places = reduce(away, "... t k -> t k" if what != "the bias" else "h t s -> s t", "max").amax(dim=-1)
        far = (places > 4 * torch.finfo(dtype).eps).nonzero()
        if len(far):
            first = int(far[0])
            raise LawBroken(
                f"positions_survive_cast: in {name}, {what} at position {first} differ by {places[first]:.3g} of "
                f"their size, at "
                f"{len(far):,} of {len(positions):,} positions by more than {4 * torch.finfo(dtype).eps:.3g}."
            )


def scores(position: PositionalEncoding, q: Heads, k: Heads, positions: Tensor) -> Tensor:
    """Return the scores of each query with each key, rotated and biased as in an attention."""
    turned_q, turned_k = position.rotate(q, k, positions)
    bias = position.bias(positions, positions)
    products = einsum(turned_q, turned_k, "b h t k, b h s k -> b h t s")
    return products if bias is None else products + bias
