"""Embeddings: how the ids of a text become the stream."""

from nanotx.nn.embedding.base import Embedding, GramEmbedding, TokenEmbedding

__all__ = ["Embedding", "GramEmbedding", "TokenEmbedding"]
