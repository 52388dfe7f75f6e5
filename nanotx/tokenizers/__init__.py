"""Tokenizers: a text becomes ids and ids become a text, without torch."""

from nanotx.tokenizers.base import Codec, Tokenizer, load
from nanotx.tokenizers.streaming import StreamingDecoder

__all__ = ["Codec", "StreamingDecoder", "Tokenizer", "load"]
