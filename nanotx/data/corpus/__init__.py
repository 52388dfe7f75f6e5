"""Corpora: the sources of texts, and their split into training and validation."""

from nanotx.data.corpus.base import Corpus, TokenFiles, Unavailable

__all__ = ["Corpus", "TokenFiles", "Unavailable"]
