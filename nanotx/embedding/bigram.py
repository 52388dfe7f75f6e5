"""A row for each id, and one more for the pair that it makes with the id before it.

What follows a pair of characters is the first thing that a model learns of a text, and attention takes long to find
it; a table hands it over at the price of a look-up. Where there are more pairs than rows, pairs share rows by a hash.
Sources: Svenstrup et al. 2017, Hash Embeddings, https://arxiv.org/abs/1709.03933, here with one hash; for byte-level
models, n-grams added to each byte's embedding: Pagnoni et al. 2024, https://arxiv.org/abs/2412.09871, section 3.2.1
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from nanotx.config import at_least
from nanotx.embedding import Embedding, TokenEmbedding
from nanotx.past import Past
from nanotx.shapes import Stream, Tokens

GOLDEN = -0x61C8864680B583EB
"""An odd number near 2^64 divided by the golden ratio, as int64: multiplied by it, near keys come to lie far apart."""


@Embedding.register("bigram")
@dataclass(frozen=True, kw_only=True)
class Bigram(Embedding):
    """A row for each id, and one for each pair of neighbours."""

    rows: int = 2**15  # of the pairs' table at most; pairs share rows where there are more of them

    def __post_init__(self) -> None:
        at_least(self, 1, "rows")

    def build(self, vocab_size: int, dim: int) -> TokenEmbedding:
        return BigramEmbedding(self, vocab_size, dim)


class BigramEmbedding(TokenEmbedding):
    """The sum of both rows; before the first id stands nothing, which makes pairs of its own."""

    def __init__(self, config: Bigram, vocab_size: int, dim: int) -> None:
        super().__init__(vocab_size, dim)
        self.pairs = nn.Embedding(min(config.rows, (vocab_size + 1) * vocab_size), dim)

    def forward(self, ids: Tokens, past: Past | None = None) -> Stream:  # type: ignore[override]
        return super().forward(ids) + self.pairs(self.row(ids, past))

    def row(self, ids: Tokens, past: Past | None) -> Tokens:
        """Which row of the pairs' table each id takes."""
        known = ids + 1  # so that 0 is left for nothing
        earlier = F.pad(known, (1, 0)) if past is None else torch.cat([past.before(known), known], dim=1)
        pair = earlier[:, :-1] * self.num_embeddings + ids
        if self.pairs.num_embeddings == (self.num_embeddings + 1) * self.num_embeddings:
            return pair
        return ((pair * GOLDEN) >> 20) % self.pairs.num_embeddings
