"""The loss with its scores made chunk by chunk, so that all of them are never held.

Each chunk's gradient is taken before the next chunk is made. At a vocabulary of fifty thousand the scores of a batch
would be the largest thing in memory by far.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

Rows = Float[Tensor, "n d"]
Losses = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""From a chunk of the stream and its targets to the cross-entropy and the z-loss, each summed."""


class Chunked(torch.autograd.Function):
    """The sums of all chunks; gradients are taken on the way, where the scores are still at hand."""

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
