"""Laws of losses: the reported number is the cross-entropy, and chunks and micro-batches change nothing."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nanotx.errors import LawBroken
from nanotx.laws.values import require_close
from nanotx.nn.loss import Head, LossModule
from nanotx.nn.shapes import Stream, Tokens


def reports_cross_entropy(loss: LossModule, head: nn.Linear, x: Stream, targets: Tokens) -> None:
    """Raise LawBroken unless a loss reports the plain cross-entropy of the next token, without a gradient.

    Args:
        loss: the module.
        head: from the stream to logits.
        x: the stream.
        targets: the next token at each position.

    Raises:
        LawBroken: it reports something else; the message gives both numbers.
    """
    total, cross = loss(Head(head, [*head.parameters()]), x, targets)
    if total.ndim or cross.ndim:
        raise LawBroken(f"reports_cross_entropy: expected two numbers, got {tuple(total.shape)}, {tuple(cross.shape)}.")
    if cross.requires_grad:
        raise LawBroken("reports_cross_entropy: the reported cross-entropy has a gradient; detach it.")
    want = F.cross_entropy(head(x).flatten(0, 1).float(), targets.flatten())
    require_close("reports_cross_entropy", cross, want.detach(), 1e-5, "cross-entropy")


def chunk_invariant(loss: LossModule, head: nn.Linear, x: Stream, targets: Tokens, chunk: int) -> None:
    """Raise LawBroken unless a loss in chunks equals the whole one, gradients too, with one chunk of logits at a time.

    Args:
        loss, head, x, targets: as for `reports_cross_entropy`.
        chunk: tokens per chunk.

    Raises:
        LawBroken: a value differs, or more logits existed at once; the message says which, and by how much.
    """
    most = 0

    def watched(rows: Tensor) -> Tensor:
        nonlocal most
        logits: Tensor = head(rows)
        most = max(most, logits.numel() // logits.shape[-1])
        return logits

    whole, parts = gradients(loss, head, x, targets, 0), dict[str, Tensor]()
    x = x.detach().clone().requires_grad_()
    total, cross = loss(Head(watched, [*head.parameters()], chunk), x, targets)
    parts = outcome(loss, head, x, total, cross)
    for name, want in whole.items():
        require_close("chunk_invariant", parts[name], want, 1e-4, f"{name}, in chunks of {chunk}")
    if most > chunk:
        raise LawBroken(f"chunk_invariant: in chunks of {chunk}, the logits of {most} tokens existed at once.")


def batch_mean(loss: LossModule, head: nn.Linear, x: Stream, targets: Tokens) -> None:
    """Raise LawBroken unless the loss of a batch, gradients too, is the mean over its rows, as micro-batches require.

    Args:
        loss, head, x, targets: as for `reports_cross_entropy`.

    Raises:
        LawBroken: what differs, and by how much.
    """
    whole = gradients(loss, head, x, targets, 0)
    rows = [gradients(loss, head, x[row : row + 1], targets[row : row + 1], 0) for row in range(len(x))]
    for name, want in whole.items():
        if name != "gradient of x":
            mean = torch.stack([row[name] for row in rows]).mean(dim=0)
            require_close("batch_mean", mean, want, 1e-4, f"{name}, the mean over rows")


def gradients(loss: LossModule, head: nn.Linear, x: Stream, targets: Tokens, chunk: int) -> dict[str, Tensor]:
    """Return a loss's two numbers and its gradients, by name."""
    x = x.detach().clone().requires_grad_()
    return outcome(loss, head, x, *loss(Head(head, [*head.parameters()], chunk), x, targets))


def outcome(loss: LossModule, head: nn.Linear, x: Stream, total: Tensor, cross: Tensor) -> dict[str, Tensor]:
    """Return the two numbers of a loss and the gradients of the stream, the head and the loss's own parameters."""
    leaves = {"x": x} | dict(head.named_parameters(prefix="head")) | dict(loss.named_parameters(prefix="loss"))
    grads = torch.autograd.grad(total, [*leaves.values()], allow_unused=True, materialize_grads=True)
    numbers = {"total": total.detach(), "cross-entropy": cross.detach()}
    return numbers | {f"gradient of {name}": grad for name, grad in zip(leaves, grads, strict=True)}
