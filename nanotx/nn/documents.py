"""Documents that share a row of a batch and are kept apart: none of them reads another.

A row of a batch may hold several short documents. They are kept apart by three things, of which the model's position
knows: positions begin anew in each document, no query attends to a key of another one, and what reads the tokens before
a token (token shift, n-grams) stops where its document begins. What a document's tokens compute is then what they
compute alone.

`DocumentPosition` takes the place of the model's position for one forward pass: attentions and blocks need no further
argument. A part that cannot keep documents apart refuses them by name (`supports_documents`).
Source: Krell et al. 2021, https://arxiv.org/abs/2107.02027, section 3.2
"""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from nanotx.nn.position.base import PositionalEncoding, Rotated
from nanotx.nn.shapes import KeyPositions, Positions, Stream, Tokens

DocumentMask = Float[Tensor, "b 1 t s"]
"""Zero where query and key are of one document, and minus infinity elsewhere."""


class DocumentPosition(PositionalEncoding):
    """A model's position in rows that hold several documents.

    Args:
        position: the model's own.
        documents: for each token the number of its document, never falling along a row.
    """

    within: Tokens

    def __init__(self, position: PositionalEncoding, documents: Tokens) -> None:
        super().__init__()
        self.position, self.attention_scale = position, position.attention_scale
        self.within = positions_within(documents)
        self.mask = document_mask(documents)

    def embed(self, x: Stream, positions: Positions) -> Stream:
        """Add the encoding of each token's position in its document."""
        flat, within = rearrange(x, "b t d -> 1 (b t) d"), rearrange(self.within, "b t -> (b t)")
        return rearrange(self.position.embed(flat, within), "1 (b t) d -> b t d", b=len(x))

    def rotate(self, q: Rotated, k: Rotated, positions: Positions) -> tuple[Rotated, Rotated]:
        """Rotate queries and keys by their positions in their documents."""
        texts, within = len(q), rearrange(self.within, "b t -> (b t)")
        q, k = (rearrange(x, "b ... t k -> ... (b t) k") for x in (q, k))
        q, k = self.position.rotate(q, k, within)
        q, k = (rearrange(x, "... (b t) k -> b ... t k", b=texts) for x in (q, k))
        return q, k

    def bias(self, q_pos: Positions, k_pos: KeyPositions) -> Float[Tensor, "*texts #h t s"]:
        """Return the position's own bias, which depends on distances alone, and minus infinity between documents."""
        bias = self.position.bias(q_pos, k_pos)
        return self.mask if bias is None else self.mask + bias


def positions_within(documents: Tokens) -> Tokens:
    """Return the position of each token in its document, counted from 0."""
    at = torch.arange(documents.shape[1], device=documents.device).expand_as(documents)
    return at - torch.where(begins(documents), at, 0).cummax(dim=1).values


def begins(documents: Tokens) -> Tensor:
    """Return whether a token is the first of its document in its row."""
    first = torch.ones_like(documents[:, :1], dtype=torch.bool)
    return torch.cat([first, documents[:, 1:] != documents[:, :-1]], dim=1)


def document_mask(documents: Tokens) -> DocumentMask:
    """Return what to add to the scores, so that no query attends to another document."""
    same = rearrange(documents, "b t -> b 1 t 1") == rearrange(documents, "b s -> b 1 1 s")
    return torch.zeros(same.shape, device=documents.device).masked_fill(~same, -torch.inf)
