"""A recipe at a depth: `--depth N` sets the layers, and all that follows from them by the rules of the dial.

The dial turns the recipe that files and all other flags make. A flag that comes after `--depth` wins over it; one that
comes before it, and sets what it sets, is refused.
"""

from collections.abc import Sequence
from typing import Any

from nanotx.config.command_line import collect_flags, positional_args
from nanotx.config.schema import to_table
from nanotx.errors import ConfigError
from nanotx.recipe import Recipe
from nanotx.recipe_flags import read_options, read_recipe
from nanotx.training.dataset import vocab_size_of, with_tokenizer_unless_named

Words = list[str]


def read_at_depth(base: Recipe, argv: Sequence[str], prog: str) -> tuple[Recipe, set[str], list[str]]:
    """Return what `read_recipe` does, at the depth that a flag asks for, and lines that tell what it set.

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
        turned = at_depth(recipe, depth, vocab_size_of(recipe))
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
    """Return the fields in which two recipes differ, with both values."""
    return ", ".join(differences(to_table(before), to_table(after))) or "as the recipe has it"


def differences(before: dict[str, Any], after: dict[str, Any], at: str = "") -> list[str]:
    """Return the fields in which two tables of the same parts differ, each as `field old -> new`."""
    lines = list[str]()
    for key, new in after.items():
        old, place = before.get(key), f"{at}.{key}" if at else key
        if isinstance(new, dict) and isinstance(old, dict):
            lines += differences(old, new, place)
        elif isinstance(new, list) and isinstance(old, list) and all(isinstance(item, dict) for item in (*old, *new)):
            for index, (was, now) in enumerate(zip(old, new, strict=True)):
                lines += differences(was, now, f"{place}.{index}")
        elif old != new:
            lines.append(f"{place} {old} -> {new}")
    return lines
