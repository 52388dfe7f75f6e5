"""Entry point: `nanotx COMMAND`. Heavy imports wait until a command is chosen."""

import shlex
import sys

from nanotx import __version__
from nanotx.cli.command import commands_page, find_command, listed_commands, refused_commands
from nanotx.cli.entry import run_and_exit
from nanotx.config.help import write_page
from nanotx.errors import ConfigError

ABOUT = "nanotx: a transformer to watch, take apart, swap a part of, and train on the machine at hand"
MORE = (
    "nanotx COMMAND --help explains a command. Every recipe also runs as python -m nanotx.recipes.NAME. "
    "nanotx --version prints the version."
)


def run(argv: list[str]) -> int:
    """Run one command line and return the exit code."""
    if not argv or argv[0] in {"-h", "--help", "help"}:
        if argv[1:]:  # nanotx help train
            return find_command(argv[1]).run([*argv[2:], "--help"])
        write_page(commands_page(ABOUT, "nanotx", listed_commands(), [*refused_commands(), MORE]))
        return 0 if argv else 2
    if argv[0] in {"--version", "-V", "version"}:
        sys.stdout.write(f"nanotx {__version__}\n")
        return 0
    try:
        command = find_command(argv[0])
    except ConfigError:
        from nanotx.cli.recipe_list import recipe_names  # imports torch

        if argv[0] in recipe_names() or argv[0].endswith(".toml"):
            words = shlex.join(["nanotx", "train", *argv])
            raise ConfigError(f"nanotx {argv[0]}: this is a recipe; try {words}") from None
        raise
    return command.run(argv[1:])


def main() -> None:
    """The console script, and `torchrun -m nanotx -- COMMAND`, of which some versions of Python leave the `--`."""
    argv = sys.argv[2:] if sys.argv[1:2] == ["--"] else sys.argv[1:]
    run_and_exit(lambda: run(argv))


if __name__ == "__main__":
    main()
