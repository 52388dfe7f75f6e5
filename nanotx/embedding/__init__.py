"""Embeddings: how the ids of a text become the stream.

The thing is an `nn.Embedding`, whose `weight` has a row for each id: a tied head shares it.
"""

from abc import ABC, abstractmethod

from torch import nn

from nanotx.past import Past
from nanotx.registry import Slot
from nanotx.shapes import Stream, Tokens


class Embedding(Slot, ABC, slot="embedding", package="nanotx.embedding"):
    """The slot: ids to stream."""

    @abstractmethod
    def build(self, vocab_size: int, dim: int) -> "TokenEmbedding":
        """The module, for so many ids and a stream of width `dim`."""


class TokenEmbedding(nn.Embedding):
    """A row for each id, whatever stands before it."""

    def forward(self, ids: Tokens, past: Past | None = None) -> Stream:  # type: ignore[override]
        return super().forward(ids)
