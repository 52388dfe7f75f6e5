"""A recipe's flags: the tree of configs is the tree of flags, and a slot's flags reach every place where it stands.

First the parts are picked by name (`--attention per_head`), then the fields of the picked parts are read
(`--attention.heads 6`). `--attention`, `--ffn` and `--norm` reach into every block. What was not given stays.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from nanotx.config import Table, fields, from_table, inner, to_table
from nanotx.errors import ConfigError
from nanotx.flags import Said, face, given, leading, nearest, parse, pick, rows
from nanotx.layers import merge, merge_part, read_toml
from nanotx.recipe import Recipe
from nanotx.registry import Slot

Place = tuple[str | int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What is said of a run and not of its recipe."""

    run: str = ""  # the folder of the results; without it runs/<recipe>-<n>
    resume: bool = False  # go on from the newest checkpoint
    restart: bool = False  # begin anew in the run's folder; what lies there is set aside, not deleted
    changed: bool = False  # go on although recipe, corpus or tokenizer is not what the run began with
    detect_anomaly: bool = False  # where a number is not finite, name the operation that made it
    print_config: bool = False  # show the whole recipe as TOML, and do nothing
    load: tuple[str, ...] = ()  # Python files of your own, with parts in them


def read_options(words: Sequence[str]) -> Options:
    """The options alone, before the recipe is known.

    Raises:
        ConfigError: --run or --load names nothing.
    """
    found = {name: [word for one in values for word in one] for name, values in given(words).items()}
    for name in [one for one in ("run", "load") if one in found and not all(found[one] or [""])]:
        raise ConfigError(
            f"--{name}: expected a path such as {'mine.py' if name == 'load' else 'runs/mine'}, got nothing."
        )
    files, run = tuple(found.get("load", ())), "".join(found.get("run", ())[:1])
    spoken = {word.replace("-", "_") for word in words if word.startswith("--")}
    said = {name: f"__{name}" in spoken for name in ("resume", "restart", "changed", "detect_anomaly", "print_config")}
    return Options(run=run, load=files, **said)


def read_recipe(recipe: Recipe, words: Sequence[str], prog: str) -> tuple[Recipe, set[str]]:
    """The recipe with TOML files and flags laid over it, and which of its fields they named.

    Raises:
        ConfigError: a flag, key or value that cannot be; says what would.
        SystemExit: help was asked for, or a flag's value cannot be read.
    """
    files = leading(words)
    table, named = to_table(recipe), set()
    for file in files:
        layer = read_toml(Path(file))
        try:
            table = merge(Recipe, table, layer)
            from_table(Recipe, table)
        except ConfigError as error:
            raise type(error)(f"{file}: {error}") from None
        named |= set(layer)
    flags = spelled(list(words)[len(files) :])
    said = given(flags)
    recipe, kept = pick_parts(from_table(Recipe, table), said)
    recipe = set_fields(recipe, kept, flags, said, prog)
    return recipe, named | {name.split(".")[0] for name in said}


def spelled(words: list[str]) -> list[str]:
    """The words with --compile and --no-compile, which need no value, in full."""
    full: list[str] = []
    for word, after in zip(words, [*words[1:], "--"], strict=False):
        bare = {"--compile": "--compile=True", "--no-compile": "--compile=False"}.get(word, word)
        full.append(word if word == "--compile" and not after.startswith("-") else bare)
    return full


def places(value: Any, at: Place = ()) -> Iterator[tuple[str, Place, Any]]:
    """Every config in a recipe, outer ones first: its group of flags, where it stands, and itself."""
    for name, kind in fields(type(value)).items():
        item, kind = getattr(value, name), inner(kind)
        several = isinstance(item, tuple) and any(isinstance(one, Slot) for one in item)
        for index, one in enumerate(item) if several else [("", item)]:
            if dataclasses.is_dataclass(one):
                place = (*at, name, index) if several else (*at, name)
                yield type(one).slot if isinstance(one, Slot) else name, place, one
                yield from places(one, place)


def pick_parts(recipe: Recipe, said: Said) -> tuple[Recipe, dict[Place, Table]]:
    """The recipe with each slot that was named filled by its new part, outer slots first.

    A part that cannot be with the plain fields that it takes over stands there without them; they are given as well,
    because flags may yet change them.
    """
    waiting, kept = dict(said), dict[Place, Table]()
    while True:
        found = [(place, one) for group, place, one in places(recipe) if group in waiting and isinstance(one, Slot)]
        if not found:
            return recipe, kept
        slot = found[0][1].family
        values = waiting.pop(slot.slot)[0]
        if len(values) != 1:
            raise ConfigError(f"--{slot.slot}: expected one name of {', '.join(slot.names())}, got {values}.")
        filled: list[Place] = []  # a part that wraps another of its slot is replaced with what it wraps
        for place, one in found:
            if one.family is slot and not any(place[: len(outer)] == outer for outer in filled):
                filled.append(place)
                table = merge_part(slot, to_table(one), values[0], f"--{slot.slot}")
                try:
                    recipe = put(recipe, place, from_table(slot, table, f"--{slot.slot}"))
                except ConfigError:
                    inside = {key: item for key, item in table.items() if key == "part" or isinstance(item, dict)}
                    recipe = put(recipe, place, from_table(slot, inside, f"--{slot.slot}"))
                    kept[place] = {key: item for key, item in table.items() if key not in inside}


def set_fields(recipe: Recipe, kept: dict[Place, Table], words: list[str], said: Said, prog: str) -> Recipe:
    """The recipe with the fields that flags gave, outer configs first, each config changed once."""
    parsed = read_all(recipe, words, prog)
    groups = {group for group, _, _ in places(recipe)}
    for group, place, one in [("", (), recipe), *places(recipe)]:
        mine = getattr(parsed, group) if group else parsed
        asked = [name for name in fields(type(one)) if (f"{group}.{name}" if group else name) in said]
        changes = {name: getattr(mine, name) for name in asked if group or name not in groups}
        if changes := kept.get(place, {}) | changes:
            where = ".".join(map(str, place))
            recipe = put(recipe, place, from_table(type(one), to_table(one) | changes, where))
    return recipe


def read_all(recipe: Recipe, words: list[str], prog: str) -> Any:
    """All flags that a recipe has, read at once; each group is a field of what is returned."""
    groups: dict[str, list[Any]] = {}
    for group, _, one in places(recipe):
        groups.setdefault(group, []).append(one)
    columns: list[Any] = []
    for group, ones in groups.items():
        if isinstance(ones[0], Slot):
            columns.append(pick(group, ones[0].names(), ones[0].part))
        kind = face(ones)
        columns.append((group, Annotated[kind, tyro.conf.arg(help=kind.__doc__)], kind()))  # or tyro would look for it
    columns += [*rows([recipe]), *rows([Options()])]

    has = {group: sorted(row[0] for row in rows(ones)) for group, ones in groups.items()}

    def unknown(flag: str) -> str:
        group, _, field = flag.rpartition(".")
        near = nearest(flag, [column[0] for column in columns] + [f"{one}.{name}" for one in has for name in has[one]])
        if group not in has:
            return f"no such flag.{near}"
        who = getattr(groups[group][0], "part", group)
        return f"{who} has no field {field!r}.{near} It has: {', '.join(has[group])}."

    flags = dataclasses.make_dataclass("Flags", columns, frozen=True, kw_only=True)
    flags.__doc__ = "Files of TOML come first, then flags; what is not given stays as the recipe has it."
    return parse(flags, words, prog, unknown)


def put(value: Any, place: Place, new: Any) -> Any:
    """A config with another one standing at a place of it."""
    if not place:
        return new
    name, rest = str(place[0]), place[1:]
    item = getattr(value, name)
    if rest and isinstance(rest[0], int):
        items = list(item)
        items[rest[0]] = put(items[rest[0]], rest[1:], new)
        return dataclasses.replace(value, **{name: tuple(items)})
    return dataclasses.replace(value, **{name: put(item, rest, new)})
