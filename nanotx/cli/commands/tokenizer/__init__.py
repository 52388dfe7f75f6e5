"""Train, use, compare and convert tokenizers."""

from nanotx.cli.command import builtin_commands, commands_page, find_command, in_order
from nanotx.config.help import write_page

USAGE = "COMMAND"
GROUP = "Tokenize"
ORDER = 39

PROG = "nanotx tokenizer"
MORE = (
    "TOKENIZER is the path of a tokenizer, or the name of a preset. nanotx tokenizer COMMAND --help explains a command."
)


def run(argv: list[str]) -> int:
    """Run one of the tokenizer commands: the files of this folder."""
    if not argv or argv[0] in {"-h", "--help"}:
        commands = in_order(builtin_commands(__name__).values())
        write_page(commands_page(f"{PROG}: train, use, compare and convert tokenizers", PROG, commands, [MORE]))
        return 0 if argv else 2
    return find_command(argv[0], PROG, __name__).run(argv[1:])
