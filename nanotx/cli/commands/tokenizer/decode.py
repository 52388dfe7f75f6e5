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

LONGEST = 40  # digits; no id has so many


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Write the text of ids to standard output, byte for byte.

    nanotx tokenizer decode shakespeare_bpe_512 ids.txt
    echo "42 7 305" | nanotx tokenizer decode bpe.json
    """

    tokenizer: str = argument("TOKENIZER")  # path of a tokenizer, or name of a preset
    file: str = argument("FILE", "")  # file of ids as decimal numbers; standard input where none is named


def run(argv: list[str]) -> int:
    """Decode."""
    said = parse(Flags, argv, "nanotx tokenizer decode")
    found = text_of(said.file).split()
    for word in found:
        if not word.isdecimal() or len(word) > LONGEST:
            raise TextError(f"nanotx tokenizer decode: expected ids as decimal numbers, got {brief(word)}.")
    sys.stdout.buffer.write(load(said.tokenizer).decode_bytes([int(word) for word in found]))
    sys.stdout.buffer.flush()
    return 0
