"""Embeddings: how the ids of a text become the stream.

The thing is an `nn.Embedding`, whose `weight` has a row for each id: a tied head shares it. What those share that look
at the ids before stands here once, in `NgramEmbedding`; a part says how far they look.
"""

from abc import ABC, abstractmethod

import torch
from torch import nn
from torch.nn import functional as F

from nanotx.config.registry import Slot
from nanotx.nn.dropout import Dropout
from nanotx.nn.hooks import OnStepModule
from nanotx.nn.kv_cache import KVCache
from nanotx.nn.shapes import Stream, Tokens

GOLDEN = -0x61C8864680B583EB
"""An odd number near 2^64 divided by the golden ratio, as int64: multiplied by it, near keys come to lie far apart."""


class Embedding(Slot, ABC, slot="embedding", package="nanotx.nn.embedding", group="nanotx.embedding"):
    """The slot: ids to stream."""

    @abstractmethod
    def build(self, vocab_size: int, dim: int) -> "TokenEmbedding":
        """The module, for so many ids and a stream of width `dim`."""


class TokenEmbedding(nn.Embedding):
    """A row for each id, whatever stands before it."""

    def forward(self, ids: Tokens, cache: KVCache | None = None) -> Stream:
        return super().forward(ids)


class NgramEmbedding(TokenEmbedding, OnStepModule):
    """The row of an id, and those of the pair, the triple and so on that it makes with the ids before it.

    Where these outnumber the buckets, they share buckets by a hash. "No id" comes before the first id, and makes
    pairs of its own. Tables begin at zero, so that what was never met in training adds nothing, and those of what is
    longer than a pair may do so again in the midst of a run. With `sparse` the gradient of a table holds only the rows
    that were met, of which a step meets few.
    """

    def __init__(
        self, vocab_size: int, dim: int, max_n: int, buckets: int, dropout: float = 0.0, resets: int = 0
    ) -> None:
        super().__init__(vocab_size, dim)
        self.dropout, self.resets = Dropout(dropout), resets
        sizes = (min(buckets, (vocab_size + 1) ** (length - 1) * vocab_size) for length in range(2, max_n + 1))
        self.grams = nn.ParameterList(torch.zeros(size, dim) for size in sizes)

    @torch.no_grad()
    def on_step(self, step: int, steps: int) -> None:
        """Reset the tables of n-grams longer than pairs, if it is time."""
        if step in {round(steps * part / (self.resets + 1)) for part in range(1, self.resets + 1)}:
            for table in list(self.grams)[1:]:
                table.zero_()

    def forward(self, ids: Tokens, cache: KVCache | None = None) -> Stream:
        x = super().forward(ids)
        back, known = len(self.grams), ids + 1  # so that 0 is left for nothing
        earlier = F.pad(known, (back, 0)) if cache is None else torch.cat([cache.previous(known, back), known], dim=1)
        gram, kinds = ids, self.num_embeddings
        for distance, table in enumerate(self.grams, start=1):
            before = earlier[:, back - distance : back - distance + ids.shape[1]]
            gram, kinds = before * wrapped(kinds) + gram, kinds * (self.num_embeddings + 1)
            row = gram if len(table) == kinds else hashed(gram, len(table))
            x = x + F.embedding(row, table, sparse=self.sparse) * self.dropout(x.new_ones(*ids.shape, 1))
        return x


def hashed(grams: Tokens, buckets: int) -> Tokens:
    """A row for each n-gram; near ones far apart."""
    return (grams * GOLDEN >> 20) % buckets


def wrapped(number: int) -> int:
    """What int64 makes of a number too large for it, as its products do by themselves."""
    return (number + 2**63) % 2**64 - 2**63
