"""Continue a run, or train it further."""

import re
from dataclasses import MISSING, replace
from pathlib import Path

from nanotx.cli.run import run as run_recipe
from nanotx.config.command_line import collect_flags, positional_args
from nanotx.config.flags import flags_of
from nanotx.config.help import page_width, write_page
from nanotx.config.help_page import HELP, Flag, Page
from nanotx.distributed.join import is_leading
from nanotx.errors import ConfigError, RunError, shell_quoted
from nanotx.files import is_blank
from nanotx.recipe import Recipe, Train
from nanotx.recipe_flags import Options
from nanotx.runs.folder import RunFolder, not_a_run
from nanotx.runs.resume_check import recipe_left

USAGE = "RUN"
GROUP = "Train"
ORDER = 11

PROG = "nanotx resume"
ABOUT = """\
Continue a run from its newest valid checkpoint, by its own recipe. --train.steps N trains it further, to step N in all:
a complete run of 1,000 steps takes 1,000 more with --train.steps 2000. The learning rate then follows the schedule of
N steps from there on, and what that changes is printed. How often a run is evaluated, sampled and saved, where
it runs, and how much memory a step needs may change; any other flag of the recipe needs --allow-mismatch. All flags of
a recipe: nanotx train NAME --help.

    nanotx resume runs/shakespeare_char-1
    nanotx resume runs/shakespeare_char-1 --train.steps 2000
    nanotx resume runs/shakespeare_char-1 --train.micro-batch-size 4
    nanotx resume runs/shakespeare_char-1 --restart
"""
MUTABLE = (
    *("train.steps", "train.eval_every", "train.sample_every", "train.checkpoint_every"),
    *("train.micro_batch_size", "train.activation_checkpointing"),
)
"""The flags of the recipe that the help shows."""


def run(argv: list[str]) -> int:
    """Continue."""
    folders = positional_args(argv)
    if (not folders and {"help"} & collect_flags(argv).keys()) or "-h" in argv:
        write_page(help_page().render(page_width()))
        return 0
    if len(folders) != 1:
        got = f"expected one, got {' '.join(folders)}" if folders else "missing; it comes before the options"
        raise ConfigError(f"{PROG}: RUN: {got} (folder of the run). See {PROG} --help.")
    for name in ("run", "resume"):
        if name in collect_flags(argv):
            raise ConfigError(f"{PROG}: --{name}: no such flag: the run is the first argument. See {PROG} --help.")
    folder = RunFolder(Path(folders[0]))
    if is_leading() and not folder.is_run:
        raise not_a_run(folders[0])
    if is_leading() and is_blank(folder.recipe) and recipe_left(folder) is None:
        raise RunError(
            f"{folder.recipe}: missing or empty, and no checkpoint in {folder.checkpoints} verifies and holds a copy; "
            "bring one of them back."
        )
    name, prog = folder.path.resolve().name, f"{PROG} {shell_quoted(folders[0])}"
    try:
        return run_recipe(Recipe(), [*argv[1:], f"--run={folders[0]}", "--resume"], name, prog=prog)
    except ConfigError as error:  # says what was typed here
        text = str(error).replace("start a new run with another --run", "start a new run with nanotx train")
        raise type(error)(re.sub("^--resume: ", f"{prog}: ", text)) from error.__cause__


def help_page() -> Page:
    """Return the help page: the options of a run, and the flags of a recipe that may change."""
    folder = Flag(name="folder", kind=str, metavar="RUN", help="folder of the run", is_argument=True, default=MISSING)
    options = [flag for flag in flags_of(Options()) if flag.name not in ("run", "resume", "print_config")]
    machine = [flag for flag in flags_of(Recipe()) if flag.name in ("device", "dtype", "threads", "compile")]
    steps = [flag for flag in flags_of(Train(), "train") if flag.name in MUTABLE]
    options = [*(replace(flag, default=None) for flag in [*steps, *machine]), *options, HELP]
    return Page(prog=PROG, about=ABOUT, sections=[("Arguments", [folder]), ("Options", options)])
