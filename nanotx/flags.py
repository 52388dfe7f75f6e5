"""Flags: the tree of configs, spelled on the command line; none is written by hand.

First the parts are picked by name (`--attention per_head`), then `tyro` reads the fields of the picked parts
(`--attention.heads 6`). A slot's flags reach every place where the slot stands in the recipe: `--attention`, `--ffn`
and `--norm` reach into every block. What was not given is not touched.
"""

import dataclasses
import inspect
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args

import tyro

from nanotx.config import fields, from_table, inner, is_slot, merge, merge_part, read_toml, to_table
from nanotx.errors import ConfigError, did_you_mean
from nanotx.recipe import Recipe
from nanotx.registry import Slot

Place = tuple[str | int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What is said of a run and not of its recipe."""

    run: str = ""  # the folder of the results; without it runs/<recipe>-<n>
    resume: bool = False  # go on from the newest checkpoint
    print_config: bool = False  # show the whole recipe as TOML, and do nothing
    load: tyro.conf.UseAppendAction[tuple[str, ...]] = ()  # a Python file of your own, with parts in it


def read_options(argv: Sequence[str]) -> Options:
    """The options alone, before the recipe is known."""
    words = given(argv)
    value = {name: words.get(name, [[]])[-1] for name in ("run", "resume", "print_config")}
    loads = tuple(word for one in words.get("load", []) for word in one[:1])
    return Options(
        run="".join(value["run"][:1]),
        resume="resume" in words,
        print_config="print_config" in words,
        load=loads,
    )


def read_recipe(recipe: Recipe, argv: Sequence[str], prog: str) -> tuple[Recipe, set[str]]:
    """The recipe with TOML files and flags laid over it, and which of its fields they named.

    Raises:
        ConfigError: a flag, key or value that cannot be; says what would.
        SystemExit: help was asked for, or a flag's value cannot be read.
    """
    files, words = leading(argv), list(argv)[len(leading(argv)) :]
    table, named = to_table(recipe), set()
    for file in files:
        layer = read_toml(Path(file))
        try:
            table = merge(Recipe, table, layer)
            from_table(Recipe, table)
        except ConfigError as error:
            raise type(error)(f"{file}: {error}") from None
        named |= set(layer)
    said = given(words)
    for name, values in said.items():
        if len(values) > 1 and name != "load":
            raise ConfigError(f"--{name}: given {len(values)} times ({values}); give it once.")
    recipe = set_fields(pick_parts(from_table(Recipe, table), said), words, said, prog)
    return recipe, named | {name.split(".")[0] for name in said}


def leading(argv: Sequence[str]) -> list[str]:
    """The words before the first flag: TOML files."""
    first = next((index for index, word in enumerate(argv) if word.startswith("-")), len(argv))
    return list(argv[:first])


def given(argv: Sequence[str]) -> dict[str, list[list[str]]]:
    """Each flag that was given, as a dotted name of fields, and its values each time it was given."""
    found: dict[str, list[list[str]]] = {}
    values: list[str] = []
    for word in argv:
        if word.startswith("--"):
            flag, equals, value = word[2:].partition("=")
            values = [value] if equals else []
            head, _, last = flag.replace("-", "_").rpartition(".")
            last = last.removeprefix("no_")
            found.setdefault(f"{head}.{last}" if head else last, []).append(values)
        else:
            values.append(word)
    return found


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


def pick_parts(recipe: Recipe, said: dict[str, list[list[str]]]) -> Recipe:
    """The recipe with each slot that was named filled by its new part, outer slots first."""
    waiting = dict(said)
    while True:
        found = [(place, one) for group, place, one in places(recipe) if group in waiting and isinstance(one, Slot)]
        if not found:
            return recipe
        slot = slot_of(found[0][1])
        values = waiting.pop(slot.slot)[0]
        if len(values) != 1:
            raise ConfigError(f"--{slot.slot}: expected one name of {', '.join(slot.names())}, got {values}.")
        for place, one in found:
            if slot_of(one) is slot:
                table = merge_part(slot, to_table(one), values[0], f"--{slot.slot}")
                recipe = put(recipe, place, from_table(slot, table, f"--{slot.slot}"))


def set_fields(recipe: Recipe, words: list[str], said: dict[str, list[list[str]]], prog: str) -> Recipe:
    """The recipe with the fields that flags gave, outer configs first, each config changed once."""
    groups: dict[str, list[Any]] = {}
    for group, _, one in places(recipe):
        groups.setdefault(group, []).append(one)
    parsed = _parse(recipe, groups, words, said, prog)
    for group, place, one in [("", (), recipe), *places(recipe)]:
        mine = getattr(parsed, group) if group else parsed
        asked = [name for name in fields(type(one)) if (f"{group}.{name}" if group else name) in said]
        changes = {name: getattr(mine, name) for name in asked if name not in groups}
        if changes:
            where = ".".join(map(str, place))
            recipe = put(recipe, place, from_table(type(one), to_table(one) | changes, where))
    return recipe


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


def slot_of(part: Slot) -> type[Slot]:
    """The slot that a part fills."""
    return next(base for base in type(part).__mro__ if "package" in base.__dict__)


def _parse(recipe: Recipe, groups: dict[str, list[Any]], words: list[str], said: dict[str, list[list[str]]], prog: str) -> Any:
    """Let tyro read all flags; answers the unknown ones."""
    rows: list[Any] = []
    known: set[str] = set()
    for group, ones in groups.items():
        if isinstance(ones[0], Slot):
            slot = slot_of(ones[0])
            about = tyro.conf.arg(name=group, help=f"the {group}: {', '.join(slot.names())}", metavar="NAME")
            rows.append((f"pick_{group}", Annotated[str, about], type(ones[0]).part))
            known.add(group)
        face = _face(ones)
        rows.append((group, face, face()))
        known |= {f"{group}.{name}" for name in fields(face)}
    for source in (recipe, Options()):
        for name, row in _rows([source]).items():
            rows.append(row)
            known.add(name)
    for flag in said:
        if flag not in known:
            raise ConfigError(f"--{flag.replace('_', '-')}: {_unknown(flag, known, groups)}")
    kind = dataclasses.make_dataclass("Flags", rows, frozen=True, kw_only=True)
    kind.__doc__ = "Files of TOML come first, then flags; what is not given stays as the recipe has it."
    parsed, left = tyro.cli(kind, args=words, prog=prog, return_unknown_args=True)
    if left:
        raise ConfigError(f"{left[0]!r}: nothing is known to do with this word; files come before the flags.")
    return parsed


def _unknown(flag: str, known: set[str], groups: dict[str, list[Any]]) -> str:
    group, _, field = flag.rpartition(".")
    near = did_you_mean(flag, known).replace("_", "-").replace("'", "'--", 1)
    if group in groups:
        parts = sorted({one.part if isinstance(one, Slot) else group for one in groups[group]})
        has = sorted(name.rpartition(".")[2] for name in known if name.startswith(f"{group}."))
        return f"{', '.join(parts)} has no field {field!r}.{near} It has: {', '.join(has)}."
    return f"no such flag.{near} All are shown by --help."


def _face(ones: list[Any]) -> type:
    """A dataclass of the plain fields of some configs, for tyro: no slots and no checks."""
    face = dataclasses.make_dataclass(type(ones[0]).__name__, _rows(ones).values(), frozen=True, kw_only=True)
    face.__doc__ = (type(ones[0]).__doc__ or "").partition("\n")[0]
    return face


def _rows(ones: list[Any]) -> dict[str, tuple[str, Any, Any]]:
    rows: dict[str, tuple[str, Any, Any]] = {}
    for one in ones:
        comments = _comments(type(one))
        for name, kind in fields(type(one)).items():
            kinds = (inner(kind), *get_args(inner(kind)))
            if not any(is_slot(part) or dataclasses.is_dataclass(part) for part in kinds):
                rows.setdefault(name, (name, Annotated[kind, tyro.conf.arg(help=comments.get(name, ""))], getattr(one, name)))
    return rows


def _comments(kind: type) -> dict[str, str]:
    """The comment behind each field of a config: what the field means."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if dataclasses.is_dataclass(base):
            source = inspect.getsource(base)
            found |= dict(re.findall(r"^    (\w+): [^#\n]*#\s*(.+)$", source, flags=re.MULTILINE))
    return found
