"""Any tokenizer of the library `tokenizers`."""

from nanotx.tokenizers.huggingface.tokenizer import Huggingface, HuggingfaceCodec

__all__ = ["Huggingface", "HuggingfaceCodec"]
