"""A row for each id, and one for each pair, triple and so on that end with it: tables of n-grams in the model.

A single character says little; three of them say most of what a small model learns in its first minutes.
Source: Pagnoni et al. 2024, https://arxiv.org/abs/2412.09871, section 3.2.1, where they begin with triples, of bytes
"""

from dataclasses import dataclass
from typing import ClassVar

from nanotx.config.schema import check_fraction, check_max, check_min
from nanotx.errors import ConfigError
from nanotx.nn.embedding.base import Embedding, NgramEmbedding, TokenEmbedding

MAX_N = 8


@Embedding.register("ngrams")
@dataclass(frozen=True, kw_only=True)
class Ngrams(Embedding):
    """A row for each id, and one for each of the n-grams that end with it, up to `max_n` ids."""

    supports_documents: ClassVar[bool] = True

    max_n: int = 3  # number of ids in the longest n-gram
    dropout: float = 0.0  # rate at which n-grams are dropped in training, each independently
    resets: int = 0  # number of times in a run, evenly spaced, at which the tables longer than pairs are reset to zero
    buckets: int = 2**14  # maximum number of rows in each table; with more n-grams, some share a row

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
