"""Commands of `nanotx`: the files of `nanotx/cli/commands`, and the entry points of the group `nanotx.commands`.

A command is a module. The first line of its docstring is its summary, `USAGE` names its arguments, `GROUP` and `ORDER`
place it in `nanotx --help`, and `run(argv)` returns the exit code. What the help shows is read from the source, so that
listing the commands imports none of them.
"""

import ast
import importlib
import pkgutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.machinery import ModuleSpec
from importlib.metadata import EntryPoint, entry_points

from nanotx.cli.entry import stdout_error
from nanotx.config.help import columns, page_width, text_indent, wrap
from nanotx.config.other_names import COMMANDS
from nanotx.config.plugin_errors import describe_error, describe_line
from nanotx.config.source import find_spec, parse_module
from nanotx.errors import ConfigError, NanotxError, did_you_mean, is_memory_full

PACKAGE = "nanotx.cli.commands"
ENTRY_POINT_GROUP = "nanotx.commands"
PLUGIN_GROUP = "Plug-ins"
"""Heading of the commands of plug-ins that name no group."""

LAST = 1000
"""Order of the commands that name none."""


@dataclass(frozen=True)
class Command:
    """A command, not imported until it runs.

    Args:
        name: the word after `nanotx`.
        module: the dotted name of its module.
        package: the installed package that brings it; empty for a command of nanotx.
    """

    name: str
    module: str
    package: str = ""

    @cached_property
    def spec(self) -> ModuleSpec | None:
        """The module's spec, or None; finding it imports nothing, not even the packages around it."""
        return find_spec(self.module)

    @property
    def file(self) -> str:
        """The file of the module, or its dotted name where there is no file."""
        return (self.spec and self.spec.origin) or self.module

    @cached_property
    def page(self) -> dict[str, str]:
        """The docstring (`doc`) and the plain constants of the module, read from its source; empty where unreadable."""
        tree = parse_module(self.module)
        constants = {
            node.targets[0].id: str(node.value.value)
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            and isinstance(node.targets[0], ast.Name)
        }  # fmt: skip
        return {"doc": ast.get_docstring(tree) or "", **constants}

    @property
    def summary(self) -> str:
        """The first line of the module's docstring."""
        summary = self.page.get("doc", "").partition("\n")[0]
        return summary or (f"A command of {self.package}, without a summary." if self.package else "")

    @property
    def usage(self) -> str:
        """The arguments, such as `RUN [FILE]`."""
        return self.page.get("USAGE", "")

    @property
    def group(self) -> str:
        """The heading in the help."""
        return self.page.get("GROUP", PLUGIN_GROUP)

    @property
    def order(self) -> int:
        """The place in the help."""
        order = self.page.get("ORDER", "")
        return int(order) if order.isdecimal() else LAST

    def run(self, argv: list[str]) -> int:
        """Import the command, run it, and return its exit code.

        Raises:
            ConfigError: a command of a plug-in cannot be imported, has no `run`, raises, or returns no exit code.
        """
        if not self.package:
            code: int = importlib.import_module(self.module).run(argv)
            return code
        with self._errors_named():
            module = importlib.import_module(self.module)
        run = getattr(module, "run", None)
        if not callable(run):
            raise ConfigError(f"{self}: expected a function run(argv) that returns the exit code, and there is none.")
        with self._errors_named():
            result = run(argv)
        if isinstance(result, bool) or not isinstance(result, int):
            raise ConfigError(
                f"{self}: run(argv) returned {result!r:.80}; expected the exit code, 0 where all is well."
            )
        return result

    def __str__(self) -> str:
        return f"command {self.name!r} of {self.package or 'nanotx'} ({self.file})"

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        """Turn whatever a plug-in raises into one message that names it."""
        try:
            yield
        except (NanotxError, BrokenPipeError):
            raise
        except SystemExit as error:
            if not isinstance(error.code, int | None):
                raise ConfigError(f"{self}: {error.code!s:.400}") from error
            raise
        except Exception as error:
            full_disk = isinstance(error, OSError) and error.filename is None and stdout_error()
            if full_disk or is_memory_full(error):
                raise
            raise ConfigError(
                f"{self}{describe_line(error, self.file)} {describe_error(error)}. Correct the file and try again."
            ) from error


def builtin_commands(package: str = PACKAGE) -> dict[str, Command]:
    """Return the commands of a package by name: each of its modules is one."""
    spec = find_spec(package)
    path = (spec.submodule_search_locations if spec else None) or []
    names = [module.name for module in pkgutil.iter_modules(path) if not module.name.startswith("_")]
    return {name: Command(name, f"{package}.{name}") for name in names}


def plugin_commands() -> list[Command]:
    """Return the commands that installed packages bring, also those whose name is taken."""
    return [plugin_command(entry) for entry in entry_points(group=ENTRY_POINT_GROUP)]


def plugin_command(entry: EntryPoint) -> Command:
    """Return the command of an entry point; its value is a module."""
    return Command(entry.name, entry.value, entry.dist.name if entry.dist else "an unknown package")


def find_command(name: str, prog: str = "nanotx", package: str = PACKAGE) -> Command:
    """Return the command of this name.

    Args:
        name: its name.
        prog: what precedes the name on the command line.
        package: the package of the commands that come with nanotx.

    Raises:
        ConfigError: there is no such command, or several plug-ins provide it.
    """
    builtin = builtin_commands(package)
    if name in builtin:
        return builtin[name]
    plugins = plugin_commands() if package == PACKAGE else []
    matches = [command for command in plugins if command.name == name]
    if len(matches) > 1:
        raise ConfigError(
            f"nanotx {name}: {len(matches)} packages bring this command: {packages(matches)}; uninstall one."
        )
    if not matches:
        known = [*builtin, *sorted({command.name for command in plugins} - builtin.keys())]
        ours = COMMANDS.get(name.lstrip("-"), "") if package == PACKAGE else ""
        near = f" Did you mean '{prog} {ours}'?" if ours else did_you_mean(name, [*known, "--help", "--version"])
        raise ConfigError(
            f"{prog} {name}: no such command.{near} Known: {', '.join(known)}; {prog} --help describes them."
        )
    return matches[0]


def refused_commands() -> list[str]:
    """Return a sentence for each command of a plug-in that cannot be used, because its name is taken."""
    builtin, plugins = builtin_commands(), plugin_commands()
    names = sorted({command.name for command in plugins})
    sentences = []
    for name in names:
        same = [command for command in plugins if command.name == name]
        if name in builtin:
            sentences.append(f"{name} of {packages(same)} is not used: nanotx has a command of that name.")
        elif len(same) > 1:
            sentences.append(f"{name} is not used: {packages(same)} bring a command of that name; uninstall one.")
    return sentences


def packages(commands: Sequence[Command]) -> str:
    """Return the packages and modules of some commands, as a list in a sentence."""
    return " and ".join(f"{command.package} ({command.module})" for command in commands)


def listed_commands() -> list[Command]:
    """Return all commands that can be used, in the order of the help."""
    builtin, plugins = builtin_commands(), plugin_commands()
    names = [command.name for command in plugins]
    usable = [command for command in plugins if command.name not in builtin and names.count(command.name) == 1]
    return in_order([*builtin.values(), *usable])


def in_order(commands: Iterable[Command]) -> list[Command]:
    """Return commands in the order of the help."""
    return sorted(commands, key=lambda command: (command.order, command.name))


def commands_page(about: str, prog: str, commands: Sequence[Command], more: Sequence[str]) -> str:
    """Return the help page of several commands, by group.

    Args:
        about: the first paragraph.
        prog: what precedes the name of a command on the command line.
        commands: the commands, in order.
        more: the last paragraphs.
    """
    width = page_width()
    labels = {command.name: f"{command.name} {command.usage}".rstrip() for command in commands}
    indent = text_indent(list(labels.values()), width)
    sections = [wrap(about, width), wrap(f"Usage: {prog} COMMAND [arguments] [options]", width)]
    for group in dict.fromkeys(command.group for command in commands):
        rows = [(labels[command.name], command.summary) for command in commands if command.group == group]
        sections.append(f"{group}:\n{columns(rows, width, indent)}")
    return "\n\n".join([*sections, *(wrap(paragraph, width) for paragraph in more)])
