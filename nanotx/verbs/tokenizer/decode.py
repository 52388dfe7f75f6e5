"""nanotx tokenizer decode: the text of ids, byte for byte."""

import sys

from nanotx.errors import TextError
from nanotx.tokenizers import load
from nanotx.verbs.tokenizer._input import named, text_of


def run(words: list[str]) -> int:
    """The text of ids, byte for byte."""
    name, file = named(words, "decode")
    text = text_of(file)
    for word in text.split():
        if not word.isdecimal():
            raise TextError(f"nanotx tokenizer decode: expected ids as decimal numbers, got {word!r}.")
    sys.stdout.buffer.write(load(name).decode_bytes([int(word) for word in text.split()]))
    sys.stdout.buffer.flush()
    return 0
