"""Write a tokenizer in the format of another library."""

import sys
from dataclasses import MISSING, dataclass
from pathlib import Path

from nanotx.config.flags import argument, option, parse
from nanotx.tokenizers import load
from nanotx.tokenizers.convert import write_tokenizer

USAGE = "TOKENIZER PATH --to FORMAT"
GROUP = "Convert"
ORDER = 40


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Write a tokenizer in the format of another library, with equal ids for every text, or say why not.

    nanotx tokenizer export bpe.json --to huggingface tokenizer.json
    nanotx tokenizer export shakespeare_bpe_512 --to tiktoken ranks.tiktoken
    """

    tokenizer: str = argument("TOKENIZER")  # path of a tokenizer, or name of a preset
    path: str = argument("PATH")  # file to write; for huggingface, a folder as well
    to: str = option("FORMAT", MISSING)  # format to write: huggingface or tiktoken


def run(argv: list[str]) -> int:
    """Write the tokenizer in the other format, and return the exit code."""
    flags = parse(Flags, argv, "nanotx tokenizer export")
    codec = load(flags.tokenizer)
    written = write_tokenizer(codec, flags.to, Path(flags.path))
    for note in written.notes:
        sys.stdout.write(f"{flags.path}: {note}\n")
    for file in written.files:
        sys.stdout.write(f"{file}: {codec.part}, {codec.vocab_size} ids, for {flags.to}\n")
    return 0
