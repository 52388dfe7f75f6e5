"""Entry point: `nanotx COMMAND`. Nothing heavy is imported before a command is chosen."""

import importlib
import pkgutil
import sys

from nanotx import __version__
from nanotx.cli.entry import run_and_exit
from nanotx.errors import ConfigError, did_you_mean

USAGE = """\
nanotx: a transformer to watch, take apart, swap a part of, and train on the machine at hand

  nanotx train NAME|FILE.toml [flags]     run a recipe, of the package or a preset
  nanotx resume RUN [--train.steps N]     continue a run, or train it further
  nanotx sample RUN [flags]               let a run write
  nanotx show RUN [flags]                 a run's course, on the terminal or as SVG
  nanotx eval RUN [flags]                 how well a run predicts a text, in bits per byte, by script too
  nanotx verify RUN [flags]               whether a run's folder can be believed
  nanotx replay RUN --step N [flags]      a step of a run taken again to the bit, and what it did
  nanotx diff RUN RUN [flags]             the first step and tensor in which two runs differ by a bit
  nanotx tokenizer SUBCOMMAND [flags]     a tokenizer: train|encode|decode|show|compare|import|export
  nanotx speedrun [NAME] [flags]          how soon a recipe reaches a loss, beside the last record
  nanotx doctor [flags]                   what this machine is good at, what a run takes of it, and why
  nanotx laws [SLOT[/PART]] [flags]       try the laws on random cases of every part, or of one
  nanotx selftest [--quick] [flags]       kill runs, fail their disks, spoil their files, and see what is kept

Each command explains itself: nanotx COMMAND --help. Every recipe is also python -m nanotx.recipes.NAME.
"""


def command_names() -> list[str]:
    """Return the names of the commands: the files of `nanotx/cli/commands`."""
    return [module.name for module in pkgutil.iter_modules(importlib.import_module("nanotx.cli.commands").__path__)]


def run(argv: list[str]) -> int:
    """Answer one command line; returns the exit code."""
    if not argv or argv[0] in {"-h", "--help", "help"}:
        sys.stdout.write(USAGE)
        return 0 if argv else 2
    if argv[0] == "--version":
        sys.stdout.write(f"nanotx {__version__}\n")
        return 0
    if argv[0] not in command_names():
        near = did_you_mean(argv[0], command_names())
        raise ConfigError(f"nanotx {argv[0]}: no such command.{near} Known: {', '.join(command_names())}.")
    code: int = importlib.import_module(f"nanotx.cli.commands.{argv[0]}").run(argv[1:])
    return code


def main() -> None:
    """The console script."""
    run_and_exit(lambda: run(sys.argv[1:]))


if __name__ == "__main__":
    main()
