"""A row for each id, and one for the pair that it makes with the id before it.

What follows a pair of characters is the first thing that a model learns of a text, and attention takes long to find
it; a table gives it for the cost of a look-up.
Source: Svenstrup et al. 2017, Hash Embeddings, https://arxiv.org/abs/1709.03933, here with one hash function
"""

from dataclasses import dataclass
from typing import ClassVar

from nanotx.config.schema import check_max, check_min
from nanotx.nn.embedding.base import Embedding, NgramEmbedding, TokenEmbedding


@Embedding.register("bigram")
@dataclass(frozen=True, kw_only=True)
class Bigram(Embedding):
    """A row for each id, and one for each pair of consecutive ids."""

    supports_documents: ClassVar[bool] = True

    buckets: int = 2**15  # maximum number of rows in the table of pairs; with more pairs, some share a row

    def __post_init__(self) -> None:
        check_min(self, 1, "buckets")
        check_max(self, 2**31, "buckets")

    def build(self, vocab_size: int, dim: int) -> TokenEmbedding:
        return NgramEmbedding(vocab_size, dim, 2, self.buckets)
