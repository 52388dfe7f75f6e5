"""Explain a word that nanotx prints, a part or a field."""

import importlib
import inspect
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from nanotx.cli.command import builtin_commands
from nanotx.cli.glossary import Entry, entries, find_entry, normalised
from nanotx.config.flags import argument, flags_of, parse, repeated
from nanotx.config.help import columns, page_width, paragraphs, split_examples, wrap, write_page
from nanotx.config.help_page import Flag
from nanotx.config.registry import Slot, load_file
from nanotx.errors import ConfigError, did_you_mean

USAGE = "[WORD]"
GROUP = "Learn"
ORDER = 45

SLOTS = "The slots of a recipe"
"""The group of the glossary whose entries are names of slots."""

MORE = (
    "Any part (nanotx explain rope), field (nanotx explain train.grad-clip), law (nanotx explain position_wise), "
    "command and recipe can be explained as well."
)


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Explain a word: one that a command prints, a part, a field of a recipe, a law, a command or a recipe.

    Without a word, list the words of the glossary.

        nanotx explain gap
        nanotx explain rope
        nanotx explain train.grad-clip
    """

    words: tuple[str, ...] = argument("WORD", ())  # word, part, field, law, command or recipe to explain
    load: tuple[str, ...] = repeated("FILE.py")  # Python file of your own, which registers parts


def run(argv: list[str]) -> int:
    """Print the explanation of a word, or the list of all."""
    flags = parse(Flags, [plain_word(word) for word in argv], "nanotx explain")
    width = page_width()
    if not flags.words:
        write_page(word_list(width))
        return 0
    for file in flags.load:
        load_file(file)
    word = " ".join(flags.words)
    entry = find_entry(word)
    texts = [entry_text(entry, width)] if entry else []
    if entry is None or entry.group == SLOTS or flags.load:
        texts += registry_texts(word, entry.names if entry else (), width)
    texts = texts or [*named_texts(word, width)]
    if not texts:
        raise ConfigError(
            f"nanotx explain {word}: unknown word.{did_you_mean(normalised(word), known_words())} "
            "See nanotx explain for the list."
        )
    write_page("\n\n".join(texts))
    return 0


def plain_word(word: str) -> str:
    """Return an argument without its leading hyphens, unless it is a flag of this command."""
    return word if word.partition("=")[0] in ("--load", "-h", "--help") else word.lstrip("-").partition("=")[0]


def word_list(width: int) -> str:
    """Return the page of all words of the glossary, by group."""
    groups = {entry.group: [other for other in entries() if other.group == entry.group] for entry in entries()}
    sections = [
        f"{group}:\n{wrap(', '.join(entry.names[0] for entry in members), width, '  ')}"
        for group, members in groups.items()
    ]
    return "\n\n".join(["Usage: nanotx explain WORD", *sections, wrap(MORE, width)])


def entry_text(entry: Entry, width: int) -> str:
    """Return an entry of the glossary as text for a terminal."""
    return f"{', '.join(entry.names)}:\n{paragraphs(entry.plain, width)}"


# Parts, fields and laws, from their docstrings.


def registry_texts(word: str, names: Sequence[str], width: int) -> list[str]:
    """Return what the docstrings say about the slots, parts, fields and laws of this name; imports torch.

    Args:
        word: the name.
        names: other names of a slot.
        width: columns of the page.
    """
    wanted = normalised(word)
    texts = [slot_text(slot, width) for slot in slots() if {slot.slot, f"{slot.slot} slot"} & {wanted, *names}]
    texts += [part_text(slot, name, width) for slot in slots() for name in slot.names() if normalised(name) == wanted]
    return [*texts, *field_texts(wanted, width)] or law_texts(wanted, width)


def slots() -> list[type[Slot]]:
    """Return all slots, in the order of the glossary."""
    for module in ("nanotx.recipe", "nanotx.training.callbacks.base"):
        importlib.import_module(module)
    order = [entry.names[0] for entry in entries() if entry.group == SLOTS]
    kinds = [slot for slot in Slot.__subclasses__() if slot.__module__.startswith("nanotx.")]
    return sorted(kinds, key=lambda slot: order.index(slot.slot) if slot.slot in order else len(order))


def slot_text(slot: type[Slot], width: int) -> str:
    """Return the parts of a slot, each with its summary."""
    rows = [(name, summary(slot.find(name))) for name in slot.names()]
    return f"Parts of the slot {slot.slot}:\n{columns(rows, width)}"


def summary(kind: type[Any]) -> str:
    """Return the first line of the docstring of a class."""
    return (inspect.getdoc(kind) or "").partition("\n")[0]


def part_text(slot: type[Slot], name: str, width: int) -> str:
    """Return what the docstrings say about a part, and its fields."""
    part = slot.find(name)
    about, examples = split_examples(inspect.cleandoc(sys.modules[part.__module__].__doc__ or ""))
    chosen = f"--{slot.slot} {name}"
    blocks = [
        wrap(f"{name}, a part of the slot {slot.slot} ({chosen}): {summary(part)}", width),
        paragraphs(about, width),
        examples,
    ]
    if rows := [flag_row(flag) for flag in flags_of(part, slot.slot)]:
        blocks.append(f"Fields:\n{columns(rows, width)}")
    return "\n\n".join(filter(None, blocks))


def flag_row(flag: Flag) -> tuple[str, str]:
    """Return a flag and its help, as help pages show them."""
    return flag.label, flag.text


def field_texts(wanted: str, width: int) -> list[str]:
    """Return the flags whose name, or whose last word, is this one; equal flags of several parts are shown once."""
    rows: dict[tuple[str, str], list[str]] = {}
    for part, flag in recipe_flags():
        if wanted in (normalised(flag.name), normalised(flag.name.rpartition(".")[2])):
            rows.setdefault(flag_row(flag), []).append(part)
    shown = [
        (label, " ".join([*([f"{', '.join(parts)}:"] if all(parts) else []), text]))
        for (label, text), parts in rows.items()
    ]
    return [f"Flags of a recipe:\n{columns(shown, width)}"] if shown else []


def recipe_flags() -> Iterator[tuple[str, Flag]]:
    """Yield every flag that a recipe can have, with the part that has it, or "" where every recipe does."""
    from nanotx.recipe import Recipe  # imports torch
    from nanotx.recipe_flags import recipe_page

    families = {slot.slot for slot in slots()}
    for flag in recipe_page(Recipe(), "nanotx train").flags.values():
        if flag.name.partition(".")[0] not in families:
            yield "", flag
    for slot in slots():
        for name in slot.names():
            yield from ((name, flag) for flag in flags_of(slot.find(name), slot.slot))


def law_texts(wanted: str, width: int) -> list[str]:
    """Return what the laws of this name state."""
    laws: dict[str, list[str]] = {}
    for slot, those in importlib.import_module("nanotx.laws.all_laws").LAWS.items():
        for law in those:
            if normalised(law.name) == wanted:
                laws.setdefault(f"{law.name}, a law: {law.about.rstrip('.')}.", []).append(slot)
    return [wrap(f"{text} Asked of: {', '.join(slots)}.", width) for text, slots in laws.items()]


# Commands, recipes, and what a wrong word may have meant.


def named_texts(word: str, width: int) -> Iterator[str]:
    """Yield what is known about a command or a recipe of this name."""
    if command := builtin_commands().get(word):
        yield wrap(f"{word} is a command. {command.summary} nanotx {word} --help shows how to use it.", width)
    from nanotx.cli.recipe_list import recipe_summaries  # imports torch

    if word in (recipes := recipe_summaries()):
        yield wrap(f"{word} is a recipe. {recipes[word]} nanotx train {word} trains it.", width)


def known_words() -> set[str]:
    """Return all words that can be explained."""
    from nanotx.cli.recipe_list import recipe_summaries

    names = {normalised(name) for entry in entries() for name in entry.names} | set(recipe_summaries())
    names |= {name for slot in slots() for name in slot.names()} | set(builtin_commands())
    return names | {flag.name.rpartition(".")[2] for _, flag in recipe_flags()}
