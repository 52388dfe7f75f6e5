"""A row for each id, and one for each pair, triple and so on that it ends: a table of n-grams inside the model.

Characters say little alone; three of them say most of what a small model of characters learns in its first minutes.
Source: Pagnoni et al. 2024, https://arxiv.org/abs/2412.09871, section 3.2.1, there from triples on, for bytes
"""

from dataclasses import dataclass

from nanotx.config.schema import at_least, at_most, share
from nanotx.errors import ConfigError
from nanotx.nn.embedding.base import Embedding, GramEmbedding, TokenEmbedding

LONGEST = 8


@Embedding.register("ngrams")
@dataclass(frozen=True, kw_only=True)
class Ngrams(Embedding):
    """A row for each id, and one for each of the n-grams that end with it, up to the longest."""

    longest: int = 3  # ids of the longest n-gram
    dropout: float = 0.0  # the share of n-grams that are left out while training, each alone, as if never met
    renewals: int = 0  # how often in a run, at equal distances, the tables of those longer than pairs begin anew
    rows: int = 2**14  # of each length's table at most; n-grams share rows where there are more of them

    def __post_init__(self) -> None:
        at_least(self, 2, "longest")
        at_least(self, 1, "rows")
        at_least(self, 0, "renewals")
        at_most(self, 1000, "renewals")
        at_most(self, 2**31, "rows")
        share(self, "dropout")
        if self.longest > LONGEST:
            raise ConfigError(f"longest: expected a number up to {LONGEST}, got {self.longest}.")

    def build(self, vocab_size: int, dim: int) -> TokenEmbedding:
        return GramEmbedding(vocab_size, dim, self.longest, self.rows, self.dropout, self.renewals)
