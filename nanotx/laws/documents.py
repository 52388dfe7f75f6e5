"""Laws of documents that share a row: each of them is read as if it were alone."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nanotx.errors import LawBroken
from nanotx.laws.values import require_close
from nanotx.nn.shapes import Tokens

Reading = Callable[[Tensor, Tokens | None], Tensor]
"""From an input and the number of each token's document to an output; None where a row is one text."""


@torch.no_grad()
def documents_apart(read: Reading, x: Tensor, cuts: Sequence[int], tolerance: float = 1e-5) -> None:
    """Raise LawBroken unless the documents of a row have the outputs that each of them has alone.

    The documents of the first row begin at the cuts; those of each further row begin one token later, so that no mask
    fits two rows.

    Args:
        read: a layer, an embedding or a model.
        x: an input, `b t` or `b t d`.
        cuts: where the documents but the first begin.
        tolerance: the difference that outputs may have, relative to the largest (or 1).

    Raises:
        LawBroken: a document's outputs differ; the message says which, and how much.
    """
    documents = numbered(x.shape[0], x.shape[1], cuts).to(x.device)
    together = read(x, documents)
    for row, numbers in enumerate(documents):
        for number in numbers.unique():
            places = (numbers == number).nonzero().flatten()
            first, end = int(places[0]), int(places[-1]) + 1
            alone = read(x[row : row + 1, first:end], None)
            details = f"tokens {first} to {end - 1} of row {row}, a document of their own, beside alone"
            require_close("documents_apart", together[row : row + 1, first:end], alone, tolerance, details)


def numbered(batch: int, time: int, cuts: Sequence[int]) -> Tokens:
    """Return the number of each token's document, in rows whose documents begin at the cuts, a token later per row."""
    at = torch.arange(time)
    return torch.stack([sum((at >= cut + row).long() for cut in cuts) + torch.zeros_like(at) for row in range(batch)])


@torch.no_grad()
def loss_alone(
    losses: Callable[[Tokens, Tokens | None], Tensor], ids: Tokens, cuts: Sequence[int], tolerance: float = 1e-5
) -> None:
    """Raise LawBroken unless the loss of each document in a row is the loss that it has alone.

    Args:
        losses: from ids `b t` and the number of each token's document to the loss of each next token, `b (t - 1)`.
        ids: one row.
        cuts: where the documents but the first begin.
        tolerance: the difference that a loss may have, relative to the loss (or 1).

    Raises:
        LawBroken: a document's loss differs; the message says which, and how much.
    """
    together = losses(ids, numbered(1, ids.shape[1], cuts).to(ids.device))
    for first, end in zip([0, *cuts], [*cuts, ids.shape[1]], strict=True):
        if end - first < 2:  # its only token is no target
            continue
        alone, here = losses(ids[:, first:end], None).mean(), together[:, first : end - 1].mean()
        if not abs(float(alone - here)) <= tolerance * max(1.0, float(alone)):
            raise LawBroken(
                f"loss_alone: tokens {first} to {end - 1}, a document of their own, have the loss {float(here):.6g}, "
                f"and alone {float(alone):.6g}; the documents begin at {[0, *cuts]}."
            )
