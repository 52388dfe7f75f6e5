"""nanotx tokenizer DEED: learn a tokenizer from files, and use it; without torch.

A deed is a file of this folder, whose name is the deed's and whose `run(words)` gives the exit code.
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
nanotx tokenizer compare --corpus NAME|FILE... [--tokenizers char,byte,bpe:512,...] [--json PATH] [--picture PATH]
nanotx tokenizer export TOKENIZER --to huggingface|tiktoken PATH     the same ids by another library
nanotx tokenizer import PATH [--out PATH] [--pattern NAME] [--special-tokens NAME...]     and back

KIND is one of {kinds}; TOKENIZER a path, or the name of a preset.
"""


def deeds() -> list[str]:
    """The names of the deeds: the files of this folder."""
    return [module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")]


def run(words: list[str]) -> int:
    """Choose a deed."""
    if not words or words[0] in {"-h", "--help"}:
        sys.stdout.write(USAGE.format(kinds=", ".join(Tokenizer.names())))
        return 0 if words else 2
    if words[0] not in deeds():
        near = did_you_mean(words[0], deeds())
        raise ConfigError(f"nanotx tokenizer {words[0]}: no such deed.{near} Known: {', '.join(deeds())}.")
    code: int = importlib.import_module(f"nanotx.cli.commands.tokenizer.{words[0]}").run(words[1:])
    return code
