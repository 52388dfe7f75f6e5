"""Convert tokenizers from and to the files of other libraries."""

from nanotx.tokenizers.convert.formats import Exported, Imported, read_tokenizer, write_tokenizer

__all__ = ["Exported", "Imported", "read_tokenizer", "write_tokenizer"]
