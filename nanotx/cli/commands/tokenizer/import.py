"""Read a tokenizer of another library."""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from nanotx.config.flags import argument, option, parse
from nanotx.tokenizers.convert import read_tokenizer

USAGE = "PATH"
GROUP = "Convert"
ORDER = 41


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Read a tokenizer of another library and write one of nanotx with equal ids for every text, or say why not.

    nanotx tokenizer import tokenizer.json --out mine.json
    nanotx tokenizer import cl100k_base.tiktoken --pattern gpt4
    """

    path: str = argument("PATH")  # tokenizer.json, *.tiktoken, encoder.json with vocab.bpe, or a folder of these
    out: str = option("FILE", "imported.json")  # file to write the tokenizer to
    pattern: str = option("REGEX")  # regex that splits a text, where the file has none: gpt2, gpt4, or one of your own
    special_tokens: tuple[str, ...] = option("NAME ...", ())  # special tokens after all others, where the file has none


def run(argv: list[str]) -> int:
    """Read the tokenizer, write it as one of nanotx, and return the exit code."""
    flags = parse(Flags, argv, "nanotx tokenizer import")
    converted = read_tokenizer(Path(flags.path), flags.pattern, flags.special_tokens)
    converted.codec.save(Path(flags.out))
    for note in converted.notes:
        sys.stdout.write(f"{flags.path}: {note}\n")
    sys.stdout.write(f"{flags.out}: {converted.codec.part}, {converted.codec.vocab_size} ids\n")
    sys.stdout.write(f"nanotx tokenizer show {shlex.quote(flags.out)}\n")
    return 0
