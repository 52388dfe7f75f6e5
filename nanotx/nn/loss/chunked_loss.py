"""The model's head as a loss uses it: logits, cross-entropy and the objective of all tokens, at once or in chunks."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from nanotx.nn.shapes import Stream, Tokens

IGNORE = -100
"""The target of a token that does not count, as in PyTorch's `cross_entropy`."""

Rows = Float[Tensor, "n d"]
"""The stream at n positions, in any order."""
RowLogits = Float[Tensor, "n v"]
RowTargets = Int[Tensor, " n"]
Scalar = Float[Tensor, ""]
Objective = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From the logits of some tokens, their targets and their summed cross-entropy to their summed training objective."""


class Head:
    """The model's head as a loss uses it: from a stream to logits.

    Args:
        logits: the map from a stream to logits.
        weights: its parameters.
        chunk: the maximum number of tokens whose logits exist at once; 0 for no limit. At a vocabulary of fifty
            thousand the logits of a batch are by far the largest tensor of a step; in chunks, the gradient of each
            chunk is computed before the logits of the next one.
        count: the number that sums are divided by to be means; None for the number of tokens, all of which count.
            Where it is given, targets of IGNORE are left out: a step divides the sums of all its micro-batches by one
            number, so that its loss is the mean over the targets that count, however it is split.
    """

    def __init__(
        self, logits: Callable[[Tensor], Tensor], weights: Sequence[Tensor], chunk: int = 0, count: float | None = None
    ) -> None:
        self.logits, self.weights, self.chunk, self.count = logits, weights, chunk, count

    def mean(
        self, x: Stream, targets: Tokens, objective: Objective, weights: Sequence[Tensor] = ()
    ) -> tuple[Scalar, Scalar]:
        """Return the mean of an objective over all tokens that count, and their mean cross-entropy without a gradient.

        Args:
            x: the stream, which the head reads.
            targets: the target token at each position.
            objective: the training objective of some tokens.
            weights: parameters other than the head's that `objective` uses.
        """
        rows, wanted = rearrange(x, "b t d -> (b t) d"), rearrange(targets, "b t -> (b t)")
        count: float = len(rows)
        if self.count is not None:
            counts = wanted != IGNORE
            rows, wanted, count = rows[counts], wanted[counts], self.count
        if not 0 < self.chunk < len(rows):
            total, cross = self.sums(rows, wanted, objective)
            return total / count, cross.detach() / count
        learned = [weight for weight in [*self.weights, *weights] if weight.requires_grad]
        total, cross = Chunked.apply(rows, wanted, self, objective, *learned)  # type: ignore[no-untyped-call]
        return total / count, cross / count

    def sums(self, rows: Rows, targets: RowTargets, objective: Objective) -> tuple[Scalar, Scalar]:
        """Return the objective of some tokens and their cross-entropy, each summed, in float32."""
        logits = self.logits(rows).float()
        cross = F.cross_entropy(logits, targets, reduction="sum")
        return objective(logits, targets, cross), cross


class Chunked(torch.autograd.Function):
    """The sums over all chunks; gradients are computed in the forward pass, while a chunk's logits exist."""

    @staticmethod
    def forward(
        ctx: Any, rows: Rows, targets: Tensor, head: Head, objective: Objective, *weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        total, plain = rows.new_zeros((), dtype=torch.float32), rows.new_zeros((), dtype=torch.float32)
        gradient, learned = torch.empty_like(rows), [torch.zeros_like(weight) for weight in weights]
        chunks = zip(rows.split(head.chunk), targets.split(head.chunk), gradient.split(head.chunk), strict=True)
        for piece, wanted, place in chunks:
            with torch.enable_grad():
                leaf = piece.detach().requires_grad_()
                chunk_total, cross = head.sums(leaf, wanted, objective)
                grads = torch.autograd.grad(chunk_total, [leaf, *weights], allow_unused=True, materialize_grads=True)
            place.copy_(grads[0])
            if learned:
                torch._foreach_add_(learned, list(grads[1:]))
            total, plain = total + chunk_total.detach(), plain + cross.detach()
        ctx.save_for_backward(gradient, *learned)
        ctx.mark_non_differentiable(plain)
        return total, plain

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        gradient, *learned = ctx.saved_tensors
        return (gradient * g.to(gradient.dtype), None, None, None, *(weight * g for weight in learned))
