"""What the commands that train many runs of a recipe share: its flags beside their own, progress, and signals."""

import re
import signal
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from nanotx.cli.console import check_output
from nanotx.cli.depth import read_at_depth
from nanotx.cli.run import recipe_by_name, with_source
from nanotx.config.command_line import collect_flags, positional_args
from nanotx.errors import ConfigError, did_you_mean, printable, shell_quoted
from nanotx.hardware.cpu import cores
from nanotx.hardware.device import choose_machine
from nanotx.recipe import Recipe
from nanotx.recipe_flags import describe_budget
from nanotx.recipe_swaps import describe_swaps
from nanotx.training.dataset import vocab_size_of, with_tokenizer_unless_named
from nanotx.training.signals import STOPS, Stopped, process_ends


def say(line: str) -> None:
    """Print a line of progress."""
    sys.stderr.write(printable(line) + "\n")
    sys.stderr.flush()


def split_flags(argv: list[str], own: Collection[str]) -> tuple[list[str], list[str]]:
    """Return the words of the command's own flags, and those of the recipe's, without the arguments."""
    mine, others = list[str](), list[str]()
    side = others
    for word in argv[len(positional_args(argv)) :]:
        if word.startswith("--"):
            side = mine if set(collect_flags([word])) <= {*own, "help"} else others
        elif word == "-h":
            side = mine
        side.append(word)
    return mine, others


def read_base(
    prog: str, argv: Sequence[str], own: Collection[str], vocab_size: Callable[[Recipe], int] = vocab_size_of
) -> tuple[Recipe, str]:
    """Return the recipe of an experiment with its files and flags merged into it, and its name; print its swaps.

    Args:
        prog: the command that was typed, such as `nanotx sweep`.
        argv: the name of the recipe, files and flags of it.
        own: names of the command's own flags, which a mistyped word may have meant.
        vocab_size: returns the size of a recipe's vocabulary, for `--depth`.

    Raises:
        ConfigError: there is no such recipe, or a flag, key or value cannot be; names the command that was typed.
    """
    base, rest, name = recipe_by_name([*argv], prog)
    try:
        base, rest, merged = with_source(base, rest)
        recipe, named, turned = read_at_depth(base, rest, page_of(argv[0]), vocab_size)
    except ConfigError as error:
        text = str(error).replace(f"{page_of(argv[0])}: ", f"{prog} {shell_quoted(argv[0])}: ", 1)
        if unknown := re.search(r"--([\w-]+): no such flag\.", text):
            near = did_you_mean(unknown[1], [flag.replace("_", "-") for flag in own]).replace("'", "'--", 1)
            text = text.replace(unknown[0], f"{unknown[0]}{near}") if near and "Did you mean" not in text else text
        raise type(error)(text) from None
    recipe = with_tokenizer_unless_named(recipe, named | merged, rest)
    for line in [*turned, *describe_budget(base, rest, recipe), *describe_swaps(base, rest, recipe)]:
        say(line)
    return recipe, name


def check_outputs(**paths: str) -> None:
    """Refuse, before hours of training, files that could not be written after it.

    Args:
        paths: by the name of their flag; an empty one is not asked for.

    Raises:
        ConfigError: a path is a file of a run, or in a folder that does not exist.
    """
    for flag, path in paths.items():
        if path:
            check_output(path, f"--{flag}")
            if not (folder := Path(path).absolute().parent).is_dir():
                raise ConfigError(f"--{flag} {path}: there is no folder {folder}; make it, or choose another.")


def page_of(recipe: str) -> str:
    """Return the command whose help lists the flags of a recipe, given the word that names it."""
    return f"nanotx train {shell_quoted(recipe)}"


def side_by_side(recipe: Recipe) -> int:
    """Return the number of runs to train side by side: one per core; on an accelerator, one."""
    return cores() if choose_machine(recipe.device, recipe.dtype, 1).device.type == "cpu" else 1


@contextmanager
def stopping(folder: Path) -> Iterator[None]:
    """Within, the first signal that asks for an end is raised, and the user learns how to continue.

    Raises:
        KeyboardInterrupt: Ctrl-C.
        Stopped: another of those signals, such as SIGTERM; later ones are ignored.
    """

    def hear(number: int, frame: FrameType | None) -> None:
        for other in before:
            signal.signal(other, signal.SIG_IGN)
        raise Stopped(number)

    before, unheard = {}, (signal.SIG_IGN, None)  # nohup wants SIGHUP ignored
    for name in STOPS:
        number = signal.__dict__.get(name)
        if number is not None and number != signal.SIGINT and signal.getsignal(number) not in unheard:
            before[number] = signal.getsignal(number)
    stopped = False
    try:
        for number in before:
            signal.signal(number, hear)
        yield
    except KeyboardInterrupt:
        stopped = True
        say(f"Stopped, and saved in {shell_quoted(folder)}. The same command continues it.")
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if stopped and process_ends.get() else handler)
