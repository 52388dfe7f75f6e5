"""Embeddings: from token ids to the residual stream.

The module is an `nn.Embedding`, whose `weight` has a row for each id: a tied head shares it. What embeddings of n-grams
share is in `NgramEmbedding`; a part defines their maximum length.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from nanotx.config.registry import Slot
from nanotx.nn.dropout import Dropout
from nanotx.nn.hooks import OnStepModule
from nanotx.nn.kv_cache import KVCache
from nanotx.nn.shapes import Stream, Tokens

GOLDEN = -0x61C8864680B583EB
"""An odd number near 2^64 divided by the golden ratio, as int64: multiplying by it spreads near keys far apart."""


class Embedding(Slot, ABC, slot="embedding", package="nanotx.nn.embedding", group="nanotx.embedding"):
    """The embedding slot: from ids to stream."""

    supports_documents: ClassVar[bool] = False  # whether `forward` takes the positions of tokens in their documents

    @abstractmethod
    def build(self, vocab_size: int, dim: int) -> "TokenEmbedding":
        """Build the module for `vocab_size` ids and a stream of width `dim`."""


class TokenEmbedding(nn.Embedding):
    """A row for each id, whatever comes before it."""

    def forward(self, ids: Tokens, cache: KVCache | None = None, within: Tokens | None = None) -> Stream:
        """Return the stream; `within` are the positions of tokens in their documents, where rows hold several."""
        return super().forward(ids)


class NgramEmbedding(TokenEmbedding, OnStepModule):
    """The row of an id plus the rows of the pair, the triple and so on that end with it.

    Where these outnumber the buckets, they share buckets by a hash. "No id" comes before the first id, and makes
    pairs of its own. Tables are initialised to zero, so that an n-gram that training never met adds nothing; those of
    n-grams longer than a pair may be reset to zero during a run. With `sparse` the gradient of a table has only the few
    rows that a step met.
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
        if self.resets_at(step, steps):
            for table in list(self.grams)[1:]:
                if table.requires_grad:  # not frozen
                    table.zero_()

    def resets_at(self, step: int, steps: int) -> bool:
        """Return whether tables are reset after `step` of the run's `steps`."""
        times = {round(steps * part / (self.resets + 1)) for part in range(1, self.resets + 1)}
        return step in times and any(table.requires_grad for table in list(self.grams)[1:])

    def step_note(self, step: int, steps: int) -> str:
        if not self.resets_at(step, steps):
            return ""
        longest = len(self.grams) + 1
        which = "triples" if longest == 3 else f"3 to {longest} tokens"
        return (
            f"step {step + 1}: the tables of n-grams of {which} were reset to zero, as embedding.resets = "
            f"{self.resets} asks; the loss jumps, and falls again."
        )

    def forward(self, ids: Tokens, cache: KVCache | None = None, within: Tokens | None = None) -> Stream:
        x = super().forward(ids)
        back, shifted = len(self.grams), ids + 1  # so that 0 means "no id"
        earlier = (
            F.pad(shifted, (back, 0)) if cache is None else torch.cat([cache.previous(shifted, back), shifted], dim=1)
        )
        gram, kinds = ids, self.num_embeddings
        mask = self.dropout(x.new_ones(*ids.shape, back))
        for distance, table in enumerate(self.grams, start=1):
            before = earlier[:, back - distance : back - distance + ids.shape[1]]
            if within is not None:  # a document has no id before its first token
                before = before * (within >= distance)
            gram, kinds = before * wrapped(kinds) + gram, kinds * (self.num_embeddings + 1)
            row = gram if len(table) == kinds else hashed(gram, len(table))
            x = x + F.embedding(row, table, sparse=self.sparse) * mask[..., distance - 1 : distance]
        return x


def hashed(grams: Tokens, buckets: int) -> Tokens:
    """Return the bucket of each n-gram; near n-grams get distant buckets."""
    return (grams * GOLDEN >> 20) % buckets


def wrapped(number: int) -> int:
    """Wrap a number around as int64 does, as its products do by themselves."""
    return (number + 2**63) % 2**64 - 2**63
