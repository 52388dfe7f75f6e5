"""A row for each id, and one for each pair, triple and so on that it ends: a table of n-grams inside the model.

Characters say little alone; three of them say most of what a small model of characters learns in its first minutes.
Source: Pagnoni et al. 2024, https://arxiv.org/abs/2412.09871, section 3.2.1, there from triples on, for bytes
"""

from dataclasses import dataclass

from nanotx.config.schema import check_fraction, check_max, check_min
from nanotx.errors import ConfigError
from nanotx.nn.embedding.base import Embedding, NgramEmbedding, TokenEmbedding

MAX_N = 8


@Embedding.register("ngrams")
@dataclass(frozen=True, kw_only=True)
class Ngrams(Embedding):
    """A row for each id, and one for each of the n-grams that end with it, up to the longest."""

    max_n: int = 3  # ids of the longest n-gram
    dropout: float = 0.0  # the share of n-grams that are left out while training, each alone, as if never met
    resets: int = 0  # how often in a run, at equal distances, the tables of those longer than pairs are reset to zero
    buckets: int = 2**14  # of each length's table at most; n-grams share buckets where there are more of them

    def __post_init__(self) -> None:
        check_min(self, 2, "max_n")
        check_min(self, 1, "buckets")
        check_min(self, 0, "resets")
        check_max(self, 1000, "resets")
        check_max(self, 2**31, "buckets")
        check_fraction(self, "dropout")
        if self.max_n > MAX_N:
            raise ConfigError(f"max_n: expected a number up to {MAX_N}, got {self.max_n}.")

    def build(self, vocab_size: int, dim: int) -> TokenEmbedding:
        return NgramEmbedding(vocab_size, dim, self.max_n, self.buckets, self.dropout, self.resets)
