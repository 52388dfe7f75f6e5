"""Decode ids to text, byte for byte."""

import sys
from dataclasses import dataclass
from reprlib import repr as brief

from nanotx.cli.tokenizer.inputs import text_of
from nanotx.config.flags import argument, parse
from nanotx.errors import TextError
from nanotx.tokenizers import load

USAGE = "TOKENIZER [FILE]"
GROUP = "Use"
ORDER = 21

MAX_DIGITS = 40
"""Digits of the longest number that is read; no id has as many."""


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Write the text of ids to standard output, byte for byte.

    nanotx tokenizer decode shakespeare_bpe_512 ids.txt
    echo "42 7 305" | nanotx tokenizer decode bpe.json
    """

    tokenizer: str = argument("TOKENIZER")  # path of a tokenizer, or name of a preset
    file: str = argument("FILE", "")  # file of ids as decimal numbers; standard input where none is named


def run(argv: list[str]) -> int:
    """Decode the ids, write their text, and return the exit code."""
    flags = parse(Flags, argv, "nanotx tokenizer decode")
    words = text_of(flags.file).split()
    for word in words:
        if not word.isdecimal() or len(word) > MAX_DIGITS:
            raise TextError(f"nanotx tokenizer decode: expected ids as decimal numbers, got {brief(word)}.")
    sys.stdout.buffer.write(load(flags.tokenizer).decode_bytes([int(word) for word in words]))
    sys.stdout.buffer.flush()
    return 0
