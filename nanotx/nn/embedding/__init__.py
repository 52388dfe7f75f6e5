"""Embeddings: from token ids to the residual stream."""

from nanotx.nn.embedding.base import Embedding, NgramEmbedding, TokenEmbedding

__all__ = ["Embedding", "NgramEmbedding", "TokenEmbedding"]
