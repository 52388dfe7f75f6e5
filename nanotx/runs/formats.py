"""The format of run folders: its number, and the messages for folders of other formats."""

from pathlib import Path
from typing import Any

from nanotx.config.toml import read_config, read_toml
from nanotx.errors import ConfigError, RunError, UnknownPart
from nanotx.recipe import Recipe
from nanotx.runs.loaded_files import edits_in, files_wanted, with_edits

FORMAT = 4
"""Written to each checkpoint's trainer.json.

Formats 1 and 2 name the fields of a recipe otherwise; up to 3 an optimizer's groups are not saved.
"""


def check_format(path: Path, number: Any) -> None:
    """Check the format number of a checkpoint or a recipe.

    Raises:
        RunError: another version of nanotx wrote it; says which one can read it.
    """
    if number != FORMAT:
        raise RunError(f"{path}: format {number!r:.60}; this nanotx reads {FORMAT}. {advice(number)}")


def advice(number: Any) -> str:
    """Return what to do about a format that is not `FORMAT`."""
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        return "No nanotx writes this format: use another checkpoint, with --step N."
    if number > FORMAT:
        return "A newer nanotx wrote it: upgrade."
    return (
        "An older nanotx wrote it: continue with that version (see versions in the run's summary.json), or start a new "
        "run."
    )


def read_saved_recipe(path: Path) -> Recipe:
    """Return the recipe that a run folder or a checkpoint holds.

    Raises:
        ConfigError: the file is unreadable or holds no valid recipe.
        RunError: an older nanotx wrote it.
        UnknownPart: it names a part that is not there; says which file the run was trained with.
    """
    train = read_toml(path).get("train")
    if isinstance(train, dict) and "batch" in train:  # every recipe of format 2 has it, and no later one
        check_format(path, 2)
    try:
        recipe: Recipe = read_config(Recipe, path)
    except UnknownPart as error:
        raise UnknownPart(f"{error}{files_wanted(path.parent)}") from None
    except ConfigError as error:
        raise type(error)(with_edits(error, edits_in(path.parent))) from None
    return recipe
