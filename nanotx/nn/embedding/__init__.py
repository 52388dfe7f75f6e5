"""Embeddings: how the ids of a text become the stream."""

from nanotx.nn.embedding.base import Embedding, NgramEmbedding, TokenEmbedding

__all__ = ["Embedding", "NgramEmbedding", "TokenEmbedding"]
