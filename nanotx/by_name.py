"""A recipe by its name: of the package, of the shelf, of a plug-in, or a file; and run."""

import importlib
import pkgutil
import sys
from importlib.metadata import entry_points
from pathlib import Path

from nanotx import recipes
from nanotx.display import Display
from nanotx.errors import ConfigError, did_you_mean
from nanotx.flags import leading
from nanotx.recipe import Recipe
from nanotx.run import run as run_recipe
from nanotx.shelf import shelf

GROUP = "nanotx.recipes"
USAGE = """\
nanotx train NAME|FILE.toml [FILE.toml ...] [flags]

Runs a recipe: one of these, or one of your own in a file. Files that follow change it, and flags change both.

{names}

nanotx train NAME --help shows every flag that a recipe has. nanotx train NAME --print-config prints it as TOML.
"""


def start(words: list[str], display: Display | None = None) -> int:
    """Run the recipe that the words name, shown by a display of one's own or by the usual one."""
    name = next(iter(leading(words)), "")
    if not name and {"-h", "--help"} & set(words):
        sys.stdout.write(USAGE.format(names="\n".join(f"  {name}" for name in known())))
        return 0
    if not name:
        raise ConfigError(f"nanotx train: expected a recipe first: {', '.join(known())}, or a file such as mine.toml.")
    if Path(name).suffix == ".toml":
        return run_recipe(Recipe(), words, Path(name).stem, display)
    if name in {module.name for module in pkgutil.iter_modules(recipes.__path__)}:
        return run_recipe(importlib.import_module(f"{GROUP}.{name}").recipe, words[1:], name, display)
    for entry in entry_points(group=GROUP, name=name):
        return run_recipe(entry.load(), words[1:], name, display)
    on_shelf = shelf("recipes") / f"{name}.toml"
    if on_shelf.is_file():
        return run_recipe(Recipe(), [str(on_shelf), *words[1:]], name, display)
    raise ConfigError(
        f"nanotx train {name}: no such recipe.{did_you_mean(name, known())} Known: {', '.join(known())}; "
        "a file's name ends in .toml."
    )


def known() -> list[str]:
    """The names of recipes: the package's, the plugged-in ones, and the shelf's."""
    modules = {module.name for module in pkgutil.iter_modules(recipes.__path__)}
    plugged = {entry.name for entry in entry_points(group=GROUP)}
    return sorted(modules | plugged | {path.stem for path in shelf("recipes").glob("*.toml")})
