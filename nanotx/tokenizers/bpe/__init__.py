"""Byte-level byte-pair encoding."""

from nanotx.tokenizers.bpe.tokenizer import Bpe, BpeCodec

__all__ = ["Bpe", "BpeCodec"]
