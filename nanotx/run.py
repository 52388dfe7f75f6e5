"""From a command line to a run."""

import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

from nanotx.agreement import changes
from nanotx.display import Display
from nanotx.door import through
from nanotx.errors import MemoryFull, RunError, is_memory_full
from nanotx.flags import leading
from nanotx.folder import find_folder
from nanotx.layers import write_toml
from nanotx.recipe import Recipe
from nanotx.recipe_flags import read_options, read_recipe, swaps
from nanotx.registry import load_file
from nanotx.session import Session
from nanotx.signals import Interrupted, listening
from nanotx.survey import Survey, recipe_left, survey


def main(recipe: Recipe) -> None:
    """The door of every recipe: `python -m nanotx.recipes.<name> [FILE.toml ...] [flags]`."""
    spec = sys.modules["__main__"].__spec__
    through(partial(run, recipe, sys.argv[1:], name=spec.name.rpartition(".")[2] if spec else "recipe"))


def run(recipe: Recipe, argv: list[str], name: str, display: Display | None = None) -> int:
    """Run a recipe with what the command line says of it; returns the exit code.

    Raises:
        NanotxError: a mistake of the user's, of any kind.
    """
    options = read_options(argv)
    for file in options.load:
        load_file(file)
    name = Path(leading(argv)[-1]).stem if leading(argv) else name
    folder = find_folder(options.run, name, options.resume or options.restart)
    found = Survey()
    if options.restart:
        recipe = (recipe_left(folder) or recipe) if options.resume else recipe
    elif options.resume:
        found = survey(folder, options.changed)
    saved = found.recipe
    unheeded: list[str] = []
    if saved and not options.changed:
        argv, unheeded = without_files(saved, argv, name)
    base = saved or recipe
    recipe, named = read_recipe(base, argv, prog=name)
    if options.print_config:
        sys.stdout.write(write_toml(recipe))
        return 0
    display = display or Display()
    for line in [*unheeded, *swaps(base, argv, recipe)]:
        display.say(line)
    if saved:
        from nanotx.agreement import check_agreement, settled  # a run that begins has nothing to agree with

        recipe = settled(saved, recipe)
        if not options.changed:
            check_agreement(saved, recipe)
    elif options.resume and not options.restart:
        display.say(f"{folder.path}: there is no run to go on with, so this one begins at step 0.")
    with suppress(Interrupted), listening() as stop:
        may_fall_back = "corpus" not in named and saved is None
        try:
            return Session(recipe, folder, display, stop, may_fall_back, options, found).go(name)
        except BrokenPipeError:
            raise
        except (MemoryError, RuntimeError) as error:
            if not is_memory_full(error):
                raise
            raise MemoryFull(
                f"{folder.path}: memory is full: {error!s:.300}; what was saved before is there. "
                "Try a smaller --train.batch, --model.dim or --model.context."
            ) from None
        except OSError as error:
            raise RunError(
                f"{folder.path}: cannot be written: {error}; what was saved before is there. "
                "Make room, or mend the folder, and go on by --resume; or try another --run."
            ) from error
    display.say(f"{folder.path}: stopped before anything was changed.")
    return stop.exit_code


def without_files(saved: Recipe, argv: list[str], name: str) -> tuple[list[str], list[str]]:
    """A command line of a resume without its files of TOML, which name the run's recipe but change nothing.

    The run may have been begun with flags besides, so it is compared with today's flags alone. And what to say of the
    fields that a file holds otherwise.
    """
    files = leading(argv)
    recipe, _ = read_recipe(saved, files, prog=name)
    found = [f"{key} {now!r}, and the run has {was!r}" for key, was, now in changes(saved, recipe)]
    said = f"{' '.join(files)}: not heeded, as the run's own recipe counts: {'; '.join(found)}."
    return argv[len(files) :], [said] if found else []
