"""Laws of positions: what they add or turn is a function of where a token stands, and of nothing else."""

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
    """A token at its place is treated alike, whatever stands beside it: in a whole text, or in the end of one.

    Args:
        position: the thing.
        x: a stream.
        q: queries (or keys) of the same positions.
        start: where the end of the text begins.
        tolerance: by how much numbers may differ, relative to the largest (or 1).

    Raises:
        LawBroken: what is treated otherwise: the embedding, queries, keys, or the bias.
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
    """Scores of queries and keys depend on how far apart they stand, and not on where.

    Args:
        position: the thing.
        q: queries.
        k: keys of the same positions.
        shift: by how many positions all are moved.
        tolerance: by how much numbers may differ, relative to the largest (or 1).

    Raises:
        LawBroken: which scores differ, and by how much.
    """
    positions = torch.arange(q.shape[-2])
    near, far = (scores(position, q, k, positions + moved) for moved in (0, shift))
    require_close("relative", far, near, tolerance, f"scores {shift} positions on, (row, head, query, key)")


@torch.no_grad()
def norm_preserving(position: PositionalEncoding, q: Heads, shift: int, tolerance: float = 1e-4) -> None:
    """Turning a query or a key does not change its length, but for the `attention_scale` that the thing states.

    Args:
        position: the thing.
        q: queries (or keys).
        shift: the position of the first.
        tolerance: by how much lengths may differ, relative to the largest (or 1).

    Raises:
        LawBroken: whose length changed, and by how much.
    """
    for name, turned in zip(("queries", "keys"), position.rotate(q, q, torch.arange(q.shape[-2]) + shift), strict=True):
        wanted = position.attention_scale * q.norm(dim=-1)
        require_close("norm_preserving", turned.norm(dim=-1), wanted, tolerance, f"{name}, (row, head, position)")


@torch.no_grad()
def informative(position: PositionalEncoding, x: Stream, q: Heads, k: Heads) -> None:
    """Some token or score is changed by where it stands: a position that tells nothing is none.

    Raises:
        LawBroken: nothing is.
    """
    positions = torch.arange(x.shape[1])
    embedded = not torch.equal(position.embed(x, positions), x)
    scored = not torch.allclose(scores(position, q, k, positions), einsum(q, k, "b h t k, b h s k -> b h t s"))
    if not embedded and not scored:
        raise LawBroken(f"informative: for {x.shape[1]} positions, neither an embedding nor a score is changed.")


@torch.no_grad()
def distinct(position: PositionalEncoding, other: PositionalEncoding, x: Stream, q: Heads, positions: Tensor) -> None:
    """Another one of the same kind, with other fields, changes nothing of this one, and is not this one.

    A table kept for all of them, whose key forgets a field, gives one the other's.

    Args:
        position: the thing.
        other: one whose config differs in a field that tells where tokens stand.
        x: a stream.
        q: queries.
        positions: their positions.

    Raises:
        LawBroken: the two are treated as one.
    """
    mine = position.embed(x, positions), position.rotate(q, q, positions)[0], position.bias(positions, positions)
    theirs = other.embed(x, positions), other.rotate(q, q, positions)[0], other.bias(positions, positions)
    if all(
        a is b or (a is not None and b is not None and torch.equal(a, b)) for a, b in zip(mine, theirs, strict=True)
    ):
        raise LawBroken(f"distinct: with other fields, all of {tuple(x.shape)} is placed as without them.")


@torch.no_grad()
def out_of_range(position: PositionalEncoding, x: Stream, context: int) -> None:
    """A time beyond a table is refused with an IndexError, or is a place of its own; never that of another token.

    Args:
        position: the thing, built for a `context`.
        x: a stream of one position.
        context: how many positions it was built for.

    Raises:
        LawBroken: whose place it was given.
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
    """Where a position states that it is relative, tokens that move on together stay as they were, however far.

    Args:
        position: the thing.
        x: a stream.
        q: queries of the same positions.
        k: keys of the same positions.
        shift: by how many positions all are moved, beyond the context too.

    Raises:
        LawBroken: what differs, and by how much; or that there is no such place.
    """
    positions, what = torch.arange(x.shape[1]), f"{shift} positions on"
    tolerance = 1e-3 + 8 * shift * 2**-24  # an angle has 24 binary digits, of which the whole turns take some
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
    """A position adds to the scores where it states `adds_bias`, and nowhere else.

    Raises:
        LawBroken: which of the two is not so.
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
    """Cast to a smaller format, a position gives every token the place that it had, up to rounding once.

    Args:
        position: the thing.
        x: a stream, of as many positions as are looked at.
        q: queries of the same positions; keys are the same.
        dtype: the smaller format.
        queries: how many positions, evenly spread and the last among them, are asked for their bias.

    Raises:
        LawBroken: the first position that is elsewhere, in what, and by how much.
    """
    cast, name = copy.deepcopy(position).to(dtype), str(dtype).removeprefix("torch.")
    x, q, positions = x.to(dtype), q.to(dtype), torch.arange(x.shape[1])
    asked = positions.flip(0)[:: max(1, len(positions) // queries)]
    some = {
        "the embedding": (cast.embed(x, positions), position.embed(x.float(), positions)),
        "queries": (cast.rotate(q, q, positions)[0], position.rotate(q.float(), q.float(), positions)[0]),
        "keys": (cast.rotate(q, q, positions)[1], position.rotate(q.float(), q.float(), positions)[1]),
        "the bias": (cast.bias(asked, positions), position.bias(asked, positions)),
    }
    for what, (got, want) in some.items():
        if got is None or want is None:
            continue
        beside = want.double().abs() if what == "the bias" else want.double().norm(dim=-1, keepdim=True)
        away = ((got.double() - want.double()).abs() / beside.clamp(min=1)).nan_to_num(torch.inf)
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
    """Of each query with each key, turned and biased as an attention does."""
    turned_q, turned_k = position.rotate(q, k, positions)
    bias = position.bias(positions, positions)
    products = einsum(turned_q, turned_k, "b h t k, b h s k -> b h t s")
    return products if bias is None else products + bias
