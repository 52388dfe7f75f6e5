"""Embeddings that are wrong in one way each."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from nanotx.nn.embedding import Embedding, TokenEmbedding

CATCHES = {}
"""The first law that catches each."""


def mutant(name, law):
    """Register a mutant built from its module's class, with the law that catches it first."""

    def enter(module):
        @Embedding.register(f"mutant_{name}")
        @dataclass(frozen=True, kw_only=True)
        class Idea(Embedding):
            def build(self, vocab_size, dim):
                return module(vocab_size, dim)

        CATCHES[f"embedding/mutant_{name}"] = law
        return module

    return enter


class Pairs(TokenEmbedding):
    """A row for each id, and one for each pair; right as it stands."""

    def __init__(self, vocab_size, dim):
        super().__init__(vocab_size, dim)
        self.pairs = nn.Embedding((vocab_size + 1) * vocab_size, dim)

    def forward(self, ids, cache=None):
        known = ids + 1
        earlier = F.pad(known, (1, 0)) if cache is None else torch.cat([cache.previous(known), known], dim=1)
        return self.weight[ids] + self.pairs(earlier[:, :-1] * self.num_embeddings + ids)


@mutant("pairs_forget", "cache")
class PairsForget(Pairs):
    """Pairs across a cut of the text are lost."""

    def forward(self, ids, cache=None):
        return super().forward(ids)


@mutant("pairs_peek", "prefix")
class PairsPeek(Pairs):
    """An id is paired with the one after it."""

    def forward(self, ids, cache=None):
        return self.weight[ids] + self.pairs(F.pad(ids[:, 1:] + 1, (0, 1)) * self.num_embeddings + ids)


@mutant("rows_turned_about", "tied")
class RowsTurnedAbout(TokenEmbedding):
    """The last row is that of the first id."""

    def forward(self, ids, cache=None):
        return super().forward(self.num_embeddings - 1 - ids)
