"""What may come next on a command line: commands, recipes, runs, parts of a slot, flags and their values.

All of it is read from source files, names of files and entry points, so that a completion imports no PyTorch.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import entry_points
from pathlib import Path

from nanotx.cli.command import PACKAGE, Command, builtin_commands, listed_commands
from nanotx.cli.glossary import entries
from nanotx.config.command_line import collect_flags
from nanotx.config.presets import presets
from nanotx.config.source import SourceClass, SourceField, find_class, part_class, source_fields, source_parts

GROUPED = {"tokenizer": "nanotx.cli.commands.tokenizer"}
"""Packages of the commands that have commands of their own."""

RECIPE_COMMANDS = ("train", "speedrun", "resume")
"""Commands that take the flags of a recipe."""

SHELLS = ("bash", "zsh", "fish")


def candidates(words: Sequence[str]) -> list[str]:
    """Return what the last word of a command line may become, sorted; empty where any file name or value may follow.

    Args:
        words: the words after `nanotx`; the last one is the one to complete, and may be empty.
    """
    *before, word = words or [""]
    before, word = [text for text in before if text != "="], "" if word == "=" else word  # bash splits --flag=value
    options = set(possible(before, word))
    return sorted(text for text in options if text.startswith(word) and text != word)


def possible(before: Sequence[str], word: str) -> Iterator[str]:
    """Yield what may come after some words, whether it begins with `word` or not."""
    command, module, rest = "", PACKAGE, list(before)
    while True:
        commands = {command_source.name: command_source for command_source in commands_in(module)}
        if not rest:
            yield from commands
            if word.startswith("-") or not command:
                yield from ("--help",) if command else ("help", "--help", "--version")
            return
        name = rest.pop(0)
        if name == "help" and not command:
            yield from commands
            return
        if name not in commands:
            return
        command = f"{command} {name}".strip()
        if name not in GROUPED:
            yield from Line(command=command, module=commands[name].module, before=rest).possible(word)
            return
        module = GROUPED[name]


def commands_in(package: str) -> list[Command]:
    """Return the commands of a package; for the package of nanotx's own, those of plug-ins too."""
    return listed_commands() if package == PACKAGE else list(builtin_commands(package).values())


@dataclass(frozen=True, kw_only=True)
class Line:
    """The words of a command line after the name of the command, up to the one that is completed."""

    command: str  # such as `tokenizer encode`
    module: str  # its module
    before: list[str] = field(default_factory=list)

    def possible(self, word: str) -> Iterator[str]:
        """Yield what may come next."""
        name, equals, _ = word.partition("=")
        if equals and name.startswith("--"):
            flag = self.find_flag(name)
            yield from (f"{name}={value}" for value in self.values(flag)) if flag else ()
        elif word.startswith("-"):
            yield from self.flags(word)
        elif flag := self.open_flag():
            yield from self.values(flag)
        else:
            yield from self.arguments()

    # Flags.

    @cached_property
    def own_fields(self) -> dict[str, SourceField]:
        """The fields of the command's `Flags`."""
        kind = find_class(self.module, "Flags")
        return source_fields(kind) if kind else {}

    @cached_property
    def groups(self) -> dict[str, SourceClass]:
        """The groups of flags: slots by name, and the configs of a recipe that are no slot."""
        recipe = find_class("nanotx.recipe", "Recipe")
        if self.command in RECIPE_COMMANDS and recipe is not None:
            return dict(config_groups(recipe))
        corpus = find_class("nanotx.data.corpus", "Corpus")
        if self.command in ("tokenizer train", "tokenizer compare") and corpus is not None:
            return {"corpus": corpus}
        position = find_class("nanotx.nn.position", "Position")
        return {"position": position} if self.command == "eval" and position is not None else {}

    @cached_property
    def plain_fields(self) -> dict[str, SourceField]:
        """The fields that are flags without a group."""
        fields = {name: field for name, field in self.own_fields.items() if not field.is_argument}
        if self.command in RECIPE_COMMANDS:
            for module, name in (("nanotx.recipe_flags", "Options"), ("nanotx.recipe", "Recipe")):
                kind = find_class(module, name)
                fields |= source_fields(kind) if kind else {}
        if self.command == "tokenizer train":
            tokenizer = find_class("nanotx.tokenizers", "Tokenizer")
            kind = part_of(tokenizer, self.first) if tokenizer else None
            fields |= source_fields(kind) if kind else {}
        if self.command == "resume":
            fields.pop("run", None)
            fields.pop("resume", None)
        return {name: field for name, field in fields.items() if not field.configs}

    @property
    def first(self) -> str:
        """The first argument, where it comes before all flags; empty if there is none."""
        return self.before[0] if self.before and not self.before[0].startswith("-") else ""

    def flags(self, word: str) -> Iterator[str]:
        """Yield the flags; those of a group only after its name and a dot."""
        head, dot, _ = word.removeprefix("--").rpartition(".")
        group = head.replace("-", "_")
        if dot:
            fields = self.group_fields(group)
            yield from (spelled(f"{group}.{name}") for name in fields)
            yield from (spelled(f"{group}.no-{name}") for name, field in fields.items() if field.is_bool)
            return
        yield "--help"
        yield from map(spelled, self.plain_fields)
        if word.startswith("--no-"):
            yield from (spelled(f"no-{name}") for name, field in self.plain_fields.items() if field.is_bool)
        yield from (spelled(name) for name, kind in self.groups.items() if kind.slot)
        yield from (f"{spelled(name)}." for name in self.groups)

    def group_fields(self, group: str) -> dict[str, SourceField]:
        """Return the fields of a group: of a slot, those of the part that the line names, or else of every part."""
        kind = self.groups.get(group)
        if kind is None:
            return {}
        kinds = [kind]
        if kind.slot:
            named = [
                values[-1][0] for name, values in collect_flags(self.before).items() if name == group and values[-1]
            ]
            parts = [part_of(kind, name) for name in named or source_parts(kind)]
            kinds = [part for part in parts if part is not None]
        fields = {name: field for kind in kinds for name, field in source_fields(kind).items()}
        return {name: field for name, field in fields.items() if not field.configs}

    def find_flag(self, word: str) -> SourceField | None:
        """Return the field that a flag sets, or a field for the name of a part; None if it is no such flag."""
        name = word.removeprefix("--").replace("-", "_")
        group, _, last = name.rpartition(".")
        if group:
            return self.group_fields(group).get(last)
        if name in self.groups and self.groups[name].slot:
            return SourceField(name=name, configs=(self.groups[name],))
        return self.plain_fields.get(name)

    def open_flag(self) -> SourceField | None:
        """Return the flag whose value comes next; None if none is open."""
        if not self.before or not self.before[-1].startswith("--") or "=" in self.before[-1]:
            return None
        flag = self.find_flag(self.before[-1])
        return None if flag is None or flag.is_bool else flag

    # Values and arguments.

    def values(self, flag: SourceField) -> Iterator[str]:
        """Yield the values of a flag; none where it takes a number, a text or a file."""
        if flag.configs:
            yield from part_names(flag.configs[0])
        elif flag.name == "position":
            yield from part_names(self.groups["position"]) if "position" in self.groups else ()
        elif flag.name == "callback":
            callback = find_class("nanotx.training.callbacks", "Callback")
            yield from part_names(callback) if callback else ()
        elif flag.metavar == "RUN" or flag.name == "run":
            yield from runs()
        else:
            yield from flag.words

    def arguments(self) -> Iterator[str]:
        """Yield the arguments; none where a file comes next."""
        arguments = [field for field in self.own_fields.values() if field.is_argument]
        metavar = arguments[0].metavar if arguments else ""
        if self.command in ("train", "speedrun") and not self.before:
            yield from recipe_names()
        elif self.command == "tokenizer train" and not self.before:
            tokenizer = find_class("nanotx.tokenizers", "Tokenizer")
            yield from part_names(tokenizer, with_presets=False) if tokenizer else ()
        elif self.command == "laws":
            yield from slots_and_parts()
        elif self.command == "explain":
            yield from (name for entry in entries() for name in entry.names if " " not in name)
        elif self.command == "completion":
            yield from SHELLS if not self.before else ()
        elif metavar == "TOKENIZER" and not self.before:
            yield from preset_names("tokenizers", ".json")
        elif (metavar.startswith("RUN") or self.command == "resume") and len(self.before) < max(
            1, metavar.count("RUN")
        ):
            yield from runs()


def spelled(name: str) -> str:
    """Return a flag as it is typed."""
    return f"--{name.replace('_', '-')}"


def config_groups(kind: SourceClass) -> Iterator[tuple[str, SourceClass]]:
    """Yield the groups of flags below a config, each once: a slot under its name, another config under its field's."""
    waiting, seen = [kind], set[str]()
    while waiting:
        for name, entry in source_fields(waiting.pop(0)).items():
            for inner in entry.configs:
                group = inner.slot or name
                if group not in seen and (inner.slot or not entry.is_tuple):  # a list of tables has no flags
                    seen.add(group)
                    yield group, inner
                    parts = [part_of(inner, part) for part in source_parts(inner)] if inner.slot else [inner]
                    waiting += [part for part in parts if part is not None]


def part_of(slot: SourceClass, name: str) -> SourceClass | None:
    """Return the class of a part of a slot; None if it does not come with nanotx."""
    module = source_parts(slot).get(name)
    return part_class(module, name) if module else None


def part_names(slot: SourceClass, with_presets: bool = True) -> Iterator[str]:
    """Yield the names of a slot's parts: those of nanotx, of plug-ins, and of the presets that fill it."""
    yield from source_parts(slot)
    keyword = slot.keywords.get("group", slot.keywords.get("package"))
    yield from (entry.name for entry in entry_points(group=str(getattr(keyword, "value", ""))))
    if slot.slot == "tokenizer" and with_presets:
        yield from preset_names("tokenizers", ".json")


def slots_and_parts() -> Iterator[str]:
    """Yield `SLOT` and `SLOT/PART` of all slots of a recipe."""
    recipe = find_class("nanotx.recipe", "Recipe")
    for group, kind in config_groups(recipe) if recipe else ():
        if kind.slot:
            yield group
            yield from (f"{group}/{name}" for name in part_names(kind, with_presets=False))


def recipe_names() -> Iterator[str]:
    """Yield the names of the recipes: of nanotx, of presets, and of plug-ins."""
    yield from builtin_commands("nanotx.recipes")
    yield from preset_names("recipes", ".toml")
    yield from (entry.name for entry in entry_points(group="nanotx.recipes"))


def preset_names(kind: str, suffix: str) -> list[str]:
    """Return the names of the presets of a kind."""
    return [path.stem for path in presets(kind).glob(f"*{suffix}")]


def runs() -> Iterator[str]:
    """Yield the runs in `runs/` and in the current folder."""
    for folder in ("runs", "."):
        try:
            names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
        except OSError:
            continue
        paths = [Path(folder) / name for name in names]
        yield from (path.as_posix() for path in paths if (path / "recipe.toml").is_file())
