"""The front door: `nanotx VERB`. Nothing heavy is imported before a verb is chosen."""

import importlib
import pkgutil
import sys

from nanotx import __version__
from nanotx.cli.entry import through
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
  nanotx tokenizer DEED [flags]           a tokenizer: train|encode|decode|show|compare|import|export
  nanotx speedrun [NAME] [flags]          how soon a recipe reaches a loss, beside the last record
  nanotx doctor [flags]                   what this machine is good at, what a run takes of it, and why
  nanotx laws [SLOT[/PART]] [flags]       try the laws on random cases of every part, or of one
  nanotx selftest [--quick] [flags]       kill runs, fail their disks, spoil their files, and see what is kept

Each verb explains itself: nanotx VERB --help. Every recipe is also python -m nanotx.recipes.NAME.
"""


def verbs() -> list[str]:
    """The names of the verbs: the files of `nanotx/verbs`."""
    return [module.name for module in pkgutil.iter_modules(importlib.import_module("nanotx.cli.commands").__path__)]


def run(argv: list[str]) -> int:
    """Answer one command line; returns the exit code."""
    if not argv or argv[0] in {"-h", "--help", "help"}:
        sys.stdout.write(USAGE)
        return 0 if argv else 2
    if argv[0] == "--version":
        sys.stdout.write(f"nanotx {__version__}\n")
        return 0
    if argv[0] not in verbs():
        near = did_you_mean(argv[0], verbs())
        raise ConfigError(f"nanotx {argv[0]}: no such verb.{near} Known: {', '.join(verbs())}.")
    code: int = importlib.import_module(f"nanotx.cli.commands.{argv[0]}").run(argv[1:])
    return code


def main() -> None:
    """The console script."""
    through(lambda: run(sys.argv[1:]))


if __name__ == "__main__":
    main()
