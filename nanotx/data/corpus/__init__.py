"""Corpora: where a text comes from, and which part of it is kept for validation."""

from nanotx.data.corpus.base import Corpus, Unavailable

__all__ = ["Corpus", "Unavailable"]
