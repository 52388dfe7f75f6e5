"""Corpora: where a text comes from, and which part of it is kept for validation."""

from nanotx.data.corpus.base import Corpus, TokenFiles, Unavailable

__all__ = ["Corpus", "TokenFiles", "Unavailable"]
