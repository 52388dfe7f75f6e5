"""A learned vector for each position, added to the embedded token.

Source: Radford et al. 2018, Improving Language Understanding by Generative Pre-Training, section 3.1
"""

from dataclasses import dataclass

from torch import nn

from nanotx.nn.position.base import Position, PositionalEncoding, check_table
from nanotx.nn.shapes import Positions, Stream


@Position.register("learned")
@dataclass(frozen=True, kw_only=True)
class Learned(Position):
    """A learned vector for each position."""

    def build(self, dim: int, heads: int, context: int) -> PositionalEncoding:
        return LearnedPosition(dim, context)


class LearnedPosition(PositionalEncoding):
    """A table with a row per position; a position beyond it raises an IndexError."""

    def __init__(self, dim: int, context: int) -> None:
        super().__init__()
        self.table = nn.Embedding(context, dim)

    def embed(self, x: Stream, positions: Positions) -> Stream:
        check_table(self, x, positions, self.table.num_embeddings, self.table.embedding_dim)
        return x + self.table(positions)
