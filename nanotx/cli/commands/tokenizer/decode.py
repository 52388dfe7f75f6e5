"""Decode ids to text, byte for byte."""

import sys
from dataclasses import dataclass
from reprlib import repr as brief
from typing import Annotated

import tyro
from tyro.conf import Positional

from nanotx.cli.tokenizer.inputs import text_of
from nanotx.config.flags import parse
from nanotx.errors import TextError
from nanotx.tokenizers import load

USAGE = "TOKENIZER [FILE]"
GROUP = "Use"
ORDER = 21

LONGEST = 40  # digits; no id has so many


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Writes the text of ids, byte for byte."""

    tokenizer: Annotated[Positional[str], tyro.conf.arg(help="a path, or the name of a preset")]
    file: Annotated[Positional[str], tyro.conf.arg(help="ids as decimal numbers; standard input where none is")] = ""


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
