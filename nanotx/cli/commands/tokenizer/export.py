"""Write a tokenizer in the format of another library."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from nanotx.config.flags import parse
from nanotx.tokenizers import load
from nanotx.tokenizers.convert import write_tokenizer

USAGE = "TOKENIZER PATH"
GROUP = "Convert"
ORDER = 40


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Writes a tokenizer in another library's format, with the same ids for any text; or says why there is none."""

    tokenizer: tyro.conf.Positional[str]  # a path, or the name of a preset
    path: tyro.conf.Positional[str]  # a file; or for huggingface a folder
    to: str = field()  # huggingface or tiktoken


def run(argv: list[str]) -> int:
    """A tokenizer in another library's format."""
    said = parse(Flags, argv, "nanotx tokenizer export")
    codec = load(said.tokenizer)
    done = write_tokenizer(codec, said.to, Path(said.path))
    for note in done.notes:
        sys.stdout.write(f"{said.path}: {note}\n")
    for file in done.files:
        sys.stdout.write(f"{file}: {codec.part}, {codec.vocab_size} ids, for {said.to}\n")
    return 0
