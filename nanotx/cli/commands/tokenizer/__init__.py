"""nanotx tokenizer SUBCOMMAND: learn a tokenizer from files, and use it; without torch.

A subcommand is a file of this folder: its name is the name of the file, and its `run(argv)` returns the exit code.
"""

import importlib
import pkgutil
import sys

from nanotx.errors import ConfigError, did_you_mean
from nanotx.tokenizers import Tokenizer

USAGE = """\
nanotx tokenizer train KIND FILE... [--corpus NAME] [--out PATH] [fields of the kind, or of the corpus]
nanotx tokenizer encode TOKENIZER [FILE]     ids as decimal numbers; standard input where there is no file
nanotx tokenizer decode TOKENIZER [FILE]     ids back to text, byte for byte
nanotx tokenizer show TOKENIZER [FILE] [--text TEXT] [--html PATH]     its tokens in colours, with their ids
nanotx tokenizer compare --corpus NAME|FILE... [--tokenizers char,byte,bpe:512,...] [--json PATH] [--plot PATH]
nanotx tokenizer export TOKENIZER --to huggingface|tiktoken PATH     the same ids by another library
nanotx tokenizer import PATH [--out PATH] [--pattern NAME] [--special-tokens NAME...]     and back

KIND is one of {kinds}; TOKENIZER a path, or the name of a preset.
"""


def subcommand_names() -> list[str]:
    """Return the names of the subcommands: the files of this folder."""
    return [module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")]


def run(argv: list[str]) -> int:
    """Run one subcommand."""
    if not argv or argv[0] in {"-h", "--help"}:
        sys.stdout.write(USAGE.format(kinds=", ".join(Tokenizer.names())))
        return 0 if argv else 2
    if argv[0] not in subcommand_names():
        near = did_you_mean(argv[0], subcommand_names())
        raise ConfigError(
            f"nanotx tokenizer {argv[0]}: no such subcommand.{near} Known: {', '.join(subcommand_names())}."
        )
    code: int = importlib.import_module(f"nanotx.cli.commands.tokenizer.{argv[0]}").run(argv[1:])
    return code
