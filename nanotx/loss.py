"""The loss of a batch: cross-entropy in nats per token, and a term that keeps the scores' scale in bounds."""

from collections.abc import Callable, Sequence

from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from nanotx.shapes import Stream, Tokens

Score = Callable[[Tensor], Tensor]


def loss(
    score: Score, weights: Sequence[Tensor], x: Stream, targets: Tokens, z_loss: float = 0.0, chunk: int = 0
) -> tuple[Tensor, Tensor]:
    """What training lowers, and the cross-entropy alone, which has no gradient.

    Args:
        score: the head, from a stream to scores.
        weights: what it learns.
        x: the stream that it reads.
        targets: the token that comes next at each place.
        z_loss: weight of the mean squared logarithm of the scores' partition function, which keeps them near
            normalised. Source: Chowdhery et al. 2022, https://arxiv.org/abs/2204.02311, section 5
        chunk: how many tokens' scores are held at once; 0 for all.
    """
    rows, wanted = rearrange(x, "b t d -> (b t) d"), rearrange(targets, "b t -> (b t)")
    if not 0 < chunk < len(rows):
        cross, z = sums(score(rows), wanted, z_loss)
        return (cross + z) / len(rows), cross.detach() / len(rows)
    from nanotx.loss_chunks import Chunked  # small vocabularies need none

    def losses(piece: Tensor, its: Tensor) -> tuple[Tensor, Tensor]:
        return sums(score(piece), its, z_loss)

    total, cross = Chunked.apply(rows, wanted, losses, chunk, *weights)  # type: ignore[no-untyped-call]
    return total / len(rows), cross / len(rows)


def sums(scores: Float[Tensor, "n v"], targets: Int[Tensor, " n"], z_loss: float) -> tuple[Tensor, Tensor]:
    """The cross-entropy of some tokens, and their z-loss, each summed."""
    scores = scores.float()
    cross = F.cross_entropy(scores, targets, reduction="sum")
    return cross, z_loss * scores.logsumexp(dim=-1).square().sum() if z_loss else cross.new_zeros(())
