"""Changes that a swap of parts made in a recipe besides the requested slot: one line per slot, for the user.

A new part has fields that the old one had not, and defaults of its own for some that both have. None of it happens in
silence: a run prints `swapped: optimizer: adamw -> muon; lr 0.001 -> 0.02; new: momentum 0.95; gone: eps 1e-08`.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nanotx.config.command_line import collect_flags, positional_args
from nanotx.config.registry import Slot
from nanotx.config.schema import Table, fields
from nanotx.config.toml import read_toml
from nanotx.recipe import Recipe
from nanotx.recipe_flags import apply_files, walk_configs, wrapped_field


@dataclasses.dataclass(frozen=True, kw_only=True)
class Swap:
    """What changed at one place of a recipe, without the fields that a file or a flag named."""

    place: str  # such as model.block.ffn
    parts: str = ""  # such as `mlp -> swiglu`; empty where the part is the same
    changed: Mapping[str, tuple[Any, Any]]  # fields of both parts: the old value and the new one
    new: Mapping[str, Any]  # fields that only the new part has
    gone: Mapping[str, Any]  # fields that only the old part had

    @property
    def fields(self) -> list[str]:
        """The names of the fields that changed, came or went."""
        return [*self.changed, *self.new, *self.gone]

    def __str__(self) -> str:
        changed = (f"{name} {format_value(was)} -> {format_value(now)}" for name, (was, now) in self.changed.items())
        sets = [
            f"{title}: {', '.join(f'{name} {format_value(value)}' for name, value in values.items())}"
            for title, values in (("new", self.new), ("gone", self.gone))
            if values
        ]
        return f"{self.place}: {'; '.join([*([self.parts] if self.parts else []), *changed, *sets])}"


JOINED = {"documents": "join"}
"""Fields of a corpus that is read as one without these fields always is."""


def describe_swaps(recipe: Recipe, argv: Sequence[str], final: Recipe) -> list[str]:
    """Return a line for each swap, as `find_swaps`; that of a corpus, which is named anyway, where fields changed."""
    swaps = find_swaps(recipe, argv, final)
    return [f"swapped: {swap}" for swap in swaps if swap.place != "corpus" or changes_reading(swap)]


def changes_reading(swap: Swap) -> bool:
    """Return whether the swap of a corpus changed a field besides `JOINED`."""
    return bool(swap.changed or swap.gone or {name for name in swap.new if JOINED.get(name) != swap.new[name]})


def find_swaps(recipe: Recipe, argv: Sequence[str], final: Recipe) -> list[Swap]:
    """Return what a swap of parts changed although no file or flag named it, one value per slot.

    Each file is compared with what it was merged into, then the flags with all of that. A first file over the defaults
    is the recipe itself, and is compared with nothing.

    Args:
        recipe: before files and flags.
        argv: the files and flags.
        final: what `read_recipe` made of them.
    """
    files, swaps = positional_args(argv), list[Swap]()
    whole = 1 if recipe == Recipe() else 0
    before, _ = apply_files(recipe, files[:whole])
    for file in files[whole:]:
        after, _ = apply_files(before, [file])
        swaps += compare(before, after, NamedFields(places=frozenset(table_paths(read_toml(Path(file))))))
        before = after
    flags = collect_flags(list(argv)[len(files) :])
    by_path = {  # a corpus or a tokenizer may be named by its path instead of its part
        f"{group}.path"
        for group, _, part in walk_configs(final)
        if isinstance(part, Slot) and group in flags and flags[group] != [[part.part]]
    }
    return [*swaps, *compare(before, final, NamedFields(flags=frozenset(flags) | by_path))]


@dataclasses.dataclass(frozen=True, kw_only=True)
class NamedFields:
    """Fields that a file or flags name; their changes are not printed."""

    flags: frozenset[str] = frozenset()  # such as `ffn.hidden_dim`, wherever that slot is
    places: frozenset[str] = frozenset()  # such as `model.block.ffn.hidden_dim`

    def has(self, flag: str, place: str) -> bool:
        """Return whether a field is among them."""
        return flag in self.flags or place in self.places


def table_paths(table: Table, at: str = "") -> Iterator[str]:
    """Yield the dotted paths of the plain values in a table of a recipe; tables in a list have numbers."""
    for key, item in table.items():
        where = f"{at}.{key}" if at else key
        if isinstance(item, dict):
            yield from table_paths(item, where)
        elif isinstance(item, list) and item and all(isinstance(inner, dict) for inner in item):
            for index, inner in enumerate(item):
                yield from table_paths(inner, f"{where}.{index}" if len(item) > 1 else where)
        else:
            yield where


def compare(old: Any, new: Any, named: NamedFields, at: str = "", swapped: bool = False) -> Iterator[Swap]:
    """Yield the swaps between two configs in the same place, outer ones first.

    Args:
        old: the config before.
        new: the config after.
        named: the fields to leave out.
        at: the place of the configs.
        swapped: whether a part around them was swapped, so that other values come from there.
    """
    parts, wrapping = "", {}
    if isinstance(old, Slot) and type(old) is not type(new):
        swapped, parts = True, f"{old.part} -> {new.part}"
        outer_old, outer_new = wrapped_field(type(old)), wrapped_field(type(new))
        if outer_new and not outer_old:
            around = f"{parts}, around {old.part}"
            yield Swap(place=at, parts=around, changed={}, new=wrapper_fields(new, named, at), gone={})
            yield from compare(old, getattr(new, outer_new), named, f"{at}.{outer_new}", swapped)
            return
        if outer_old and not outer_new:
            wrapping, old = wrapper_fields(old, named, at), getattr(old, outer_old)
    plain, inner = compare_fields(old, new, named, at)
    swap = Swap(place=at, parts=parts, **plain | {"gone": wrapping | plain["gone"]})
    if parts or (swapped and swap.fields):
        yield swap
    for where, (was, now) in inner.items():
        yield from compare(was, now, named, where, swapped)


def compare_fields(
    old: Any, new: Any, named: NamedFields, at: str
) -> tuple[dict[str, dict[str, Any]], dict[str, tuple[Any, Any]]]:
    """Return the plain fields in which two configs differ, as those of `Swap`, and the pairs of configs inside them."""
    group, missing = new.slot if isinstance(new, Slot) else at.rpartition(".")[2], object()
    plain: dict[str, dict[str, Any]] = {"changed": {}, "new": {}, "gone": {}}
    inner: dict[str, tuple[Any, Any]] = {}
    for name in {**fields(type(old)), **fields(type(new))}:
        where = f"{at}.{name}" if at else name
        was, now = (getattr(config, name) if name in fields(type(config)) else missing for config in (old, new))
        if was == now or (named.has(f"{group}.{name}" if at else name, where) and not isinstance(now, Slot)):
            continue
        pairs = [(was, now)]
        if isinstance(was, tuple) and isinstance(now, tuple) and len(was) == len(now):
            pairs = list(zip(was, now, strict=True))
        if all(dataclasses.is_dataclass(config) for pair in pairs for config in pair):
            inner |= {f"{where}.{index}" if len(pairs) > 1 else where: pair for index, pair in enumerate(pairs)}
        elif now is missing:
            plain["gone"][name] = was
        elif was is missing:
            plain["new"][name] = now
        else:
            plain["changed"][name] = was, now
    return plain, inner


def wrapper_fields(part: Any, named: NamedFields, at: str) -> dict[str, Any]:
    """Return the plain fields of a part that wraps another part."""
    names = [name for name in fields(type(part)) if name != wrapped_field(type(part))]
    return {name: getattr(part, name) for name in names if not named.has(f"{part.slot}.{name}", f"{at}.{name}")}


def format_value(value: Any) -> str:
    """Return a value of a field as short text: the name of a part."""
    return value.part if isinstance(value, Slot) else repr(value)
