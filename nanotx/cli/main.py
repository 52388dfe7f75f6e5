"""Entry point: `nanotx COMMAND`. Heavy imports wait until a command is chosen."""

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
  nanotx sample RUN [flags]               generate text from a run
  nanotx show RUN [flags]                 plot a run on the terminal or as SVG
  nanotx eval RUN [flags]                 evaluate a run on a text, in bits per byte, also per script
  nanotx verify RUN [flags]               check every file of a run folder
  nanotx replay RUN --step N [flags]      repeat a step of a run to the bit and inspect it
  nanotx diff RUN RUN [flags]             find the first step and tensor in which two runs differ
  nanotx tokenizer SUBCOMMAND [flags]     train|encode|decode|show|compare|import|export
  nanotx speedrun [NAME] [flags]          time how soon a recipe reaches a loss, against the record
  nanotx doctor [flags]                   report on this machine and on the settings a run chooses
  nanotx laws [SLOT[/PART]] [flags]       check the laws on random cases of every part, or of one
  nanotx selftest [--quick] [flags]       kill runs, make their disks fail, damage their files

Help for a command: nanotx COMMAND --help. Every recipe also runs as python -m nanotx.recipes.NAME.
"""


def command_names() -> list[str]:
    """Return the names of the commands: the files of `nanotx/cli/commands`."""
    return [module.name for module in pkgutil.iter_modules(importlib.import_module("nanotx.cli.commands").__path__)]


def run(argv: list[str]) -> int:
    """Run one command line and return the exit code."""
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
