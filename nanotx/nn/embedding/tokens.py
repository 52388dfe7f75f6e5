"""The plain embedding: a row of weights for each id."""

from dataclasses import dataclass
from typing import ClassVar

from nanotx.nn.embedding.base import Embedding, TokenEmbedding


@Embedding.register("tokens")
@dataclass(frozen=True, kw_only=True)
class Tokens(Embedding):
    """A row for each id."""

    supports_documents: ClassVar[bool] = True

    def build(self, vocab_size: int, dim: int) -> TokenEmbedding:
        return TokenEmbedding(vocab_size, dim)
