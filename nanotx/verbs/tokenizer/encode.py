"""nanotx tokenizer encode: a text's ids, as decimal numbers."""

import sys

from nanotx.tokenizers import load
from nanotx.verbs.tokenizer._input import named, text_of


def run(words: list[str]) -> int:
    """A text's ids, as decimal numbers."""
    name, file = named(words, "encode")
    sys.stdout.write(" ".join(map(str, load(name).encode(text_of(file)).tolist())) + "\n")
    return 0
