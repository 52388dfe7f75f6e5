"""A recipe at a depth: `--depth N` sets the layers, and all that follows from them by the rules of the dial.

The dial turns the recipe that files and all other flags make. A flag that comes after `--depth` wins over it; one that
comes before it, and sets what it sets, is refused.
"""

from collections.abc import Callable, Sequence

from nanotx.config.command_line import collect_flags, positional_args
from nanotx.errors import ConfigError
from nanotx.recipe import Recipe
from nanotx.recipe_flags import read_options, read_recipe
from nanotx.runs.resume_check import changes
from nanotx.training.dataset import vocab_size_of, with_tokenizer_unless_named

Words = list[str]


def read_at_depth(
    base: Recipe, argv: Sequence[str], prog: str, vocab_size: Callable[[Recipe], int] = vocab_size_of
) -> tuple[Recipe, set[str], list[str]]:
    """Return what `read_recipe` does, at the depth that a flag asks for, and lines that tell what it set.

    Args:
        base: the recipe before files and flags.
        argv: files and flags.
        prog: the command that was typed.
        vocab_size: returns the size of a recipe's vocabulary, on which the FLOPs of a token depend.

    Raises:
        ConfigError: a flag before `--depth` sets what it sets, or the recipe cannot have this depth.
    """
    flags = flags_in_order(argv)
    names = [name for name, _ in flags]
    if "depth" not in names:
        return *read_recipe(base, argv, prog), []
    from nanotx.experiments.dial import SET_BY_DEPTH, at_depth  # only this flag needs it

    depth = read_options(argv).depth
    if depth < 1:
        raise ConfigError(f"--depth {depth}: expected a number of layers, at least 1.")
    place, files = names.index("depth"), positional_args(argv)
    for name, words in flags[:place]:
        if name in SET_BY_DEPTH:
            raise ConfigError(
                f"{' '.join(words)}: comes before --depth {depth}, which sets {name}; leave it out, or put it after "
                f"--depth {depth}, where it wins."
            )
    others = [word for name, words in flags if name not in SET_BY_DEPTH for word in words]
    recipe, named = read_recipe(base, [*files, *others], prog)
    recipe = with_tokenizer_unless_named(recipe, named, argv)
    try:
        turned = at_depth(recipe, depth, vocab_size(recipe))
    except ConfigError as error:
        raise type(error)(f"--depth {depth}: {error}") from None
    later = [(name, words) for name, words in flags[place:] if name in SET_BY_DEPTH]
    final, more = read_recipe(turned, [word for _, words in later for word in words], prog)
    lines = [f"depth {depth}: {what_changed(recipe, turned)}"]
    lines += [f"depth {depth}: {' '.join(words)} comes after it and wins" for _, words in later]
    return final, named | more, lines


def flags_in_order(argv: Sequence[str]) -> list[tuple[str, Words]]:
    """Return each flag of a command line by its name in a recipe, and its words."""
    flags = list[tuple[str, Words]]()
    for word in argv[len(positional_args(argv)) :]:
        if word.startswith("--") and len(word) > 2:
            flags.append((next(iter(collect_flags([word]))), [word]))
        elif flags:
            flags[-1][1].append(word)
        else:
            flags.append(("", [word]))
    return flags


def what_changed(before: Recipe, after: Recipe) -> str:
    """Return the fields in which two recipes differ, with both values, the outer ones first."""
    fields = sorted(changes(before, after), key=lambda change: (change[0].count("."), change[0]))
    return ", ".join(f"{key} {old} -> {new}" for key, old, new in fields) or "as the recipe has it"
