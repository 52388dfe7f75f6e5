"""The recipes that `nanotx train` knows by name, with their summaries, and the help page that lists them."""

import shlex
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path

from nanotx.cli.command import Command, builtin_commands
from nanotx.config.command_line import collect_flags
from nanotx.config.help import columns, wrap
from nanotx.config.help_page import HELP, Page
from nanotx.config.presets import presets
from nanotx.errors import ConfigError, did_you_mean, shell_quoted
from nanotx.files import similar_file
from nanotx.recipe import Recipe
from nanotx.recipe_flags import recipe_page
from nanotx.runs.folder import RunFolder, run_meant

ENTRY_POINT_GROUP = "nanotx.recipes"
"""Group of the entry points of recipes, and the package of the recipes of nanotx."""

PROG = "nanotx train"
DEFAULT = "shakespeare_char"
"""The recipe that errors suggest where none is named."""

USAGE = "NAME|FILE.toml"

ABOUT = """\
Train the model of a recipe, and write the results to a new folder, runs/NAME-1. Files of TOML after the name change the
recipe, and flags change both.
"""
MORE = f"{PROG} NAME --help shows every flag of a recipe. {PROG} NAME --print-config prints the recipe as TOML."
EXAMPLES = f"""\
  {PROG} shakespeare_char
  {PROG} flash --train.steps 200 --run runs/mine
  {PROG} mine.toml --attention gqa --attention.kv-heads 1
  {PROG} macbook --corpus my.txt"""


def builtin_recipes() -> dict[str, Command]:
    """Return the recipes of nanotx by name: each a module, not imported."""
    return builtin_commands(ENTRY_POINT_GROUP)


def recipe_names() -> list[str]:
    """Return the names of all recipes: of nanotx, of plug-ins, and of presets."""
    return sorted(recipe_summaries())


def recipe_summaries() -> dict[str, str]:
    """Return the first sentence about each recipe: of its module's docstring, or of the comment that heads its file."""
    plugins = entry_points(group=ENTRY_POINT_GROUP)
    return {
        **{path.stem: first_comment(path) for path in sorted(presets("recipes").glob("*.toml"))},
        **{entry.name: Command(entry.name, entry.module, "a plug-in").summary for entry in plugins},
        **{name: module.summary for name, module in builtin_recipes().items()},
    }


def first_comment(path: Path) -> str:
    """Return the first line of a file of TOML, where it is a comment."""
    with path.open(encoding="utf-8") as file:
        line = file.readline()
    return line.lstrip("# ").strip() if line.startswith("#") else ""


def train_page(width: int) -> str:
    """Return the help page of `nanotx train`: the recipes, and the flags that are used most."""
    sections = recipe_page(Recipe(), f"{PROG} NAME").sections[:2]
    sections = [
        (title, [replace(flag, default=None) for flag in flags if flag is not HELP]) for title, flags in sections
    ]
    flags = Page(prog=PROG, usage=f"{USAGE} [FILE.toml ...]", about=ABOUT, sections=sections).render(width)
    recipes = f"Recipes:\n{columns(list(recipe_summaries().items()), width)}"
    head, _, options = flags.partition("\n\nMost used:")
    return f"{head}\n\n{recipes}\n\nMost used:{options}\n\n{wrap(MORE, width)}\n\nExamples:\n{EXAMPLES}"


def missing_name(argv: Sequence[str]) -> ConfigError:
    """Return the error of a command line whose first argument is no recipe; suggests one where it comes later."""
    names = recipe_names()
    later = [word for word in argv if word in names or word.endswith(".toml")]
    if later:
        rest = [word for word in argv if word != later[0]]
        command = shlex.join([*PROG.split(), later[0], *rest])
        return ConfigError(f"{PROG}: {USAGE}: expected before the flags; try: {command}")
    flags = collect_flags(argv)
    if "resume" in flags and (folders := flags["resume"][0] or flags.get("run", [[]])[0]):
        resume = f"nanotx resume {folders[0]}"
        return ConfigError(f"{PROG}: {USAGE}: missing; a run is continued by its folder: try {resume}")
    example = f"; try {shlex.join([*PROG.split(), DEFAULT, *argv])}" if argv else ""
    return ConfigError(
        f"{PROG}: {USAGE}: missing; expected one of {', '.join(names)}, or a file such as mine.toml{example}. "
        f"See {PROG} --help."
    )


def no_such_recipe(name: str, rest: Sequence[str], command: str = PROG) -> ConfigError:
    """Return the error of a name that is no recipe; suggests one, or what the file or folder of this name is for.

    Args:
        name: the name.
        rest: the words after it.
        command: the command as it was typed.
    """
    path, names = Path(name), recipe_names()
    where, end = f"{command} {shell_quoted(name)}", f"See {command} --help."
    if path.is_dir() and RunFolder(path).is_run:
        own = shell_quoted(path / "recipe.toml")
        return ConfigError(
            f"{where}: this is a run: nanotx resume {shell_quoted(path)} continues it, and {command} {own} "
            "takes its recipe."
        )
    if path.suffix == ".py":
        return ConfigError(
            f"{where}: recipes are files of TOML, not of Python. {PROG} baby_gpt is nanoGPT's config for Shakespeare, "
            f"{PROG} macbook the one for a laptop; {PROG} NAME --print-config > mine.toml writes one to change. {end}"
        )
    if path.is_dir() or (path.is_file() and path.suffix not in (".tml", ".json", ".yaml", ".yml")):
        words = shlex.join([*command.split(), DEFAULT, "--corpus", name, *rest])
        return ConfigError(f"{where}: this is no recipe; to train on its text, try {words}")
    fits = [known for known in names if known.startswith(name) or known == name.replace("-", "_")]
    near = f" Did you mean {' or '.join(map(repr, fits))}?" if fits else did_you_mean(name, names)
    near = similar_file(path) if path.suffix else near
    if path.parent.name and (run := run_meant(path)).startswith(" Did you mean"):  # the path of a run, misspelled
        return ConfigError(f"{where}: no such recipe, and no such run.{run} {end}")
    return ConfigError(
        f"{where}: no such recipe.{near} Known: {', '.join(names)}; the name of a file ends in .toml. {end}"
    )
