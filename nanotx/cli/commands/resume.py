"""Continue a run, or train it further."""

import sys
from pathlib import Path

from nanotx.cli.run import run as run_recipe
from nanotx.config.flags import collect_flags, positional_args
from nanotx.errors import ConfigError, RunError
from nanotx.files import is_blank
from nanotx.recipe import Recipe
from nanotx.runs.folder import RunFolder
from nanotx.runs.resume_check import recipe_left

USAGE = "RUN"
GROUP = "Train"
ORDER = 11

HELP = """\
nanotx resume RUN [--train.steps N] [flags]

Continue a run from its newest checkpoint that verifies, by its own recipe. A run that is complete goes further with
--train.steps N; what that does to the schedule is printed. What else may be given: how often it is evaluated, sampled
and saved, --device, --dtype, --threads, --compile, --load FILE.py; anything else with --allow-mismatch. With --restart
the run begins again, and its old files are set aside.

All flags of a recipe: nanotx train NAME --help.
"""


def run(argv: list[str]) -> int:
    """Continue."""
    folders = positional_args(argv)
    if (not folders and {"help"} & collect_flags(argv).keys()) or "-h" in argv:
        sys.stdout.write(HELP)
        return 0
    if len(folders) != 1:
        raise ConfigError(f"nanotx resume: expected one run's folder first, got {' '.join(folders) or 'none'}.")
    for name in ("run", "resume"):
        if name in collect_flags(argv):
            raise ConfigError(f"--{name}: nanotx resume takes no such flag: the run is the first word.")
    folder = RunFolder(Path(folders[0]))
    if not folder.is_run:
        raise RunError(f"{folders[0]}: expected a run's folder, with a recipe.toml in it; begin one by nanotx train.")
    if is_blank(folder.recipe) and recipe_left(folder) is None:
        raise RunError(
            f"{folder.recipe}: missing or empty, and no checkpoint in {folder.checkpoints} verifies and holds a copy; "
            "bring one of them back."
        )
    name = folder.path.resolve().name
    return run_recipe(Recipe(), [*argv[1:], f"--run={folders[0]}", "--resume"], name)
