"""Unigram: a text becomes its likeliest tokens."""

from nanotx.tokenizers.unigram.tokenizer import Unigram, UnigramCodec

__all__ = ["Unigram", "UnigramCodec"]
