"""The loss: cross-entropy in nats per token and the z-loss, over all logits at once or chunk by chunk.

Each chunk's gradient is taken before the next chunk is made. At a vocabulary of fifty thousand the logits of a batch
would be the largest thing in memory by far.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from nanotx.nn.shapes import Stream, Tokens

Head = Callable[[Tensor], Tensor]


def loss(
    head: Head, weights: Sequence[Tensor], x: Stream, targets: Tokens, z_loss: float = 0.0, chunk: int = 0
) -> tuple[Tensor, Tensor]:
    """What training lowers, and the cross-entropy alone, which has no gradient.

    Args:
        head: the head, from a stream to logits.
        weights: what it learns.
        x: the stream that it reads.
        targets: the token that comes next at each place.
        z_loss: weight of the mean squared logarithm of the logits' partition function, which keeps them near
            normalised. Source: Chowdhery et al. 2022, https://arxiv.org/abs/2204.02311, section 5
        chunk: how many tokens' logits are held at once; 0 for all.
    """
    rows, wanted = rearrange(x, "b t d -> (b t) d"), rearrange(targets, "b t -> (b t)")
    if not 0 < chunk < len(rows):
        cross, z = sums(head(rows), wanted, z_loss)
        return (cross + z) / len(rows), cross.detach() / len(rows)

    def losses(piece: Tensor, its: Tensor) -> tuple[Tensor, Tensor]:
        return sums(head(piece), its, z_loss)

    total, cross = Chunked.apply(rows, wanted, losses, chunk, *weights)  # type: ignore[no-untyped-call]
    return total / len(rows), cross / len(rows)


def sums(logits: Float[Tensor, "n v"], targets: Int[Tensor, " n"], z_loss: float) -> tuple[Tensor, Tensor]:
    """The cross-entropy of some tokens, and their z-loss, each summed."""
    logits = logits.float()
    cross = F.cross_entropy(logits, targets, reduction="sum")
    return cross, z_loss * logits.logsumexp(dim=-1).square().sum() if z_loss else cross.new_zeros(())


Rows = Float[Tensor, "n d"]
Losses = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""From a chunk of the stream and its targets to the cross-entropy and the z-loss, each summed."""


class Chunked(torch.autograd.Function):
    """The sums of all chunks; gradients are taken on the way, where the logits are still at hand."""

    @staticmethod
    def forward(
        ctx: Any, rows: Rows, targets: Tensor, losses: Losses, chunk: int, *weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        total, plain = rows.new_zeros((), dtype=torch.float32), rows.new_zeros((), dtype=torch.float32)
        gradient, learned = torch.empty_like(rows), [torch.zeros_like(one) for one in weights]
        into = gradient.split(chunk)
        for piece, wanted, place in zip(rows.split(chunk), targets.split(chunk), into, strict=True):
            with torch.enable_grad():
                leaf = piece.detach().requires_grad_()
                cross, z = losses(leaf, wanted)
                found = torch.autograd.grad(cross + z, [leaf, *weights])
            place.copy_(found[0])
            torch._foreach_add_(learned, list(found[1:]))
            total, plain = total + (cross + z).detach(), plain + cross.detach()
        ctx.save_for_backward(gradient, *learned)
        ctx.mark_non_differentiable(plain)
        return total, plain

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        gradient, *learned = ctx.saved_tensors
        return (gradient * g.to(gradient.dtype), None, None, None, *(one * g for one in learned))
