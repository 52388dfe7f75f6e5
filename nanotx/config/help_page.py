"""A flag, and the help page of a command's flags."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from nanotx.config.flag_values import name_of_type
from nanotx.config.help import columns, paragraphs, split_examples, text_indent, wrap


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flag:
    """An option such as `--attention.heads 6`, or an argument such as `RUN`."""

    name: str  # the field; dotted where it is in a group
    kind: Any  # the type of the value
    default: Any  # the value where none is given; MISSING where one is required
    help: str = ""  # one sentence fragment
    metavar: str = ""  # name of the value in the help; empty to derive it from the type
    is_argument: bool = False  # given by position, without its name
    is_repeated: bool = False  # takes one value per occurrence, and may occur several times

    @property
    def spelled(self) -> str:
        """The flag as it is typed, or the name of the argument."""
        return self.value_name if self.is_argument else f"--{self.name.replace('_', '-')}"

    @property
    def value_name(self) -> str:
        """Name of the value in the help; empty where there is none."""
        return self.metavar or ("PATH" if self.name.rpartition(".")[2] == "path" else name_of_type(self.kind))

    @property
    def label(self) -> str:
        """The flag with its value, as the help shows it."""
        if self is HELP:
            return "-h, --help"
        if self.is_argument or self.kind is not bool:
            return f"{self.spelled} {self.value_name}".rstrip() if not self.is_argument else self.value_name
        head, _, last = self.spelled.removeprefix("--").rpartition(".")
        if head:
            return f"--{head}.[no-]{last}"
        return f"--[no-]{last}" if self.default is True else f"--{last}"

    @property
    def text(self) -> str:
        """The help with the default."""
        notes = ["repeatable"] * self.is_repeated
        default = self.default
        if default is dataclasses.MISSING:
            notes += [] if self.is_argument else ["required"]
        elif default is True:
            notes.append("default: on")
        elif default not in ("", None, (), False) or (default == 0 and default is not False):
            shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
            notes.append(f"default: {shown}")
        shown_notes = f"({', '.join(notes)})".replace(" ", "\xa0")  # on one line
        return f"{self.help} {shown_notes}" if notes else self.help


HELP = Flag(name="help", kind=bool, default=False, help="show this page and exit")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Page:
    """The flags of a command with their help page."""

    prog: str  # the command as it is typed
    about: str  # what it does; paragraphs, and examples as indented lines
    sections: Sequence[tuple[str, Sequence[Flag]]]  # title and flags of each section
    usage: str = ""  # the arguments; empty to derive them from the flags
    stray: str = ""  # the flag that one argument too many was probably meant for

    @property
    def flags(self) -> dict[str, Flag]:
        """All options by name."""
        return {flag.name: flag for _, flags in self.sections for flag in flags if not flag.is_argument}

    @property
    def arguments(self) -> list[Flag]:
        """All arguments, in order."""
        return [flag for _, flags in self.sections for flag in flags if flag.is_argument]

    @property
    def usage_line(self) -> str:
        """The command with its arguments, and with the options that are required."""
        required = [flag.label for flag in self.flags.values() if flag.default is dataclasses.MISSING]
        arguments = [
            flag.value_name if flag.default is dataclasses.MISSING else f"[{flag.value_name}]"
            for flag in self.arguments
        ]
        usage = [self.usage] if self.usage else [*arguments, *required]
        return " ".join([self.prog, *usage, "[options]"])

    def render(self, width: int) -> str:
        """Return the page as text."""
        sections = [(title, [(flag.label, flag.text) for flag in flags]) for title, flags in self.sections]
        indent = text_indent([label for _, rows in sections for label, _ in rows], width)
        head, examples = split_examples(self.about)
        blocks = [wrap(f"Usage: {self.usage_line}", width), paragraphs(head, width)]
        for title, rows in sections:
            title, _, about = title.partition("\n")
            blocks.append(
                f"{title}:\n{wrap(about, width, '  ') + chr(10) if about else ''}{columns(rows, width, indent)}"
            )
        return "\n\n".join([*blocks, *([f"Examples:\n{examples}"] if examples else [])])
