"""Read a tokenizer of another library."""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from nanotx.config.flags import parse
from nanotx.tokenizers.convert import read_tokenizer

USAGE = "PATH"
GROUP = "Convert"
ORDER = 41


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Reads another library's tokenizer and writes one of ours, with the same ids for any text; or says why not."""

    path: tyro.conf.Positional[str]  # tokenizer.json, *.tiktoken, encoder.json and vocab.bpe, or a folder with these
    out: str = "imported.json"  # where the tokenizer is written
    pattern: str = ""  # where a text is cut, if the file does not say it: gpt2, gpt4, or a regex
    special_tokens: tuple[str, ...] = ()  # names of special ids after all others, if the file does not say them


def run(argv: list[str]) -> int:
    """Another library's tokenizer as one of ours."""
    said = parse(Flags, argv, "nanotx tokenizer import")
    found = read_tokenizer(Path(said.path), said.pattern, said.special_tokens)
    found.codec.save(Path(said.out))
    for note in found.notes:
        sys.stdout.write(f"{said.path}: {note}\n")
    sys.stdout.write(f"{said.out}: {found.codec.part}, {found.codec.vocab_size} ids\n")
    sys.stdout.write(f"nanotx tokenizer show {shlex.quote(said.out)}\n")
    return 0
