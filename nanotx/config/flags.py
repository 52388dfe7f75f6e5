"""Flags: command-line options and arguments derived from the fields of dataclasses.

A field is a flag: its name, type and default are the field's, and the comment beside it is the help. Every command
reads its flags here, so that values, errors and help pages are alike everywhere::

    @dataclass(frozen=True, kw_only=True)
    class Flags:
        folder: str = argument("RUN")  # folder of the run
        seed: int = 0  # seed of the random draws
        json: str = option("FILE")  # write the figures to this file
"""

import ast
import dataclasses
import inspect
import io
import re
import shlex
import textwrap
import tokenize
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from functools import cache
from types import NoneType
from typing import Any, Literal, NoReturn, TypeVar, get_args, get_origin

from nanotx.config.help import columns, page_width, paragraphs, split_examples, text_indent, wrap, write_page
from nanotx.config.other_names import VALUES, our_flag, remark
from nanotx.config.schema import UNIONS, fields, is_slot, without_none
from nanotx.errors import ConfigError, did_you_mean

T = TypeVar("T")
FlagValues = dict[str, list[list[str]]]
"""Flag name to its values, one list per occurrence."""

TRUTH = {"true": True, "false": False}
"""How a boolean is written as a value."""


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


def parse(kind: type[T], argv: Sequence[str], prog: str, stray: str = "") -> T:
    """Parse command-line arguments into a dataclass; its docstring is the first part of the help page.

    Args:
        kind: the dataclass; its fields are the flags.
        argv: the command-line arguments.
        prog: the command, as shown in its help and errors.
        stray: the flag that one argument too many was probably meant for, such as `--prompt`.

    Raises:
        ConfigError: an unknown or repeated flag, a missing or extra argument, a bad value.
        SystemExit: help was requested.
    """
    flags = flags_of(kind)
    values = read_flags(dataclasses.replace(command_page(flags, prog, kind.__doc__ or ""), stray=stray), argv)
    try:
        return kind(**values)
    except ConfigError as error:
        name, colon, rest = str(error).partition(": ")
        if colon and name in {flag.name for flag in flags}:
            raise type(error)(f"{prog}: --{name.replace('_', '-')}: {rest}") from None
        raise


def command_page(flags: Sequence[Flag], prog: str, about: str) -> Page:
    """Return the page of a command: its arguments, then its options."""
    arguments = [flag for flag in flags if flag.is_argument]
    options = [flag for flag in flags if not flag.is_argument]
    sections = [*([("Arguments", arguments)] if arguments else []), ("Options", [*options, HELP])]
    return Page(prog=prog, about=inspect.cleandoc(about), sections=sections)


# Reading the words.


def read_flags(page: Page, argv: Sequence[str], unknown: Callable[[str], str] | None = None) -> dict[str, Any]:
    """Return the values of the flags that are given, by name.

    Args:
        page: the flags.
        argv: the command-line arguments.
        unknown: returns the message for an unknown flag.

    Raises:
        ConfigError: an unknown or repeated flag, a missing or extra argument, a bad value.
        SystemExit: help was requested, and printed.
    """
    words, arguments = Words(page, argv, unknown), list[str]()
    values: dict[str, Any] = {}
    for flag, given in words:
        if flag is None:
            arguments += given
        elif flag is HELP:
            write_page(page.render(page_width()))
            raise SystemExit(0)
        elif flag.name not in values:
            values[flag.name] = words.value(flag, given)
        elif is_variadic(flag.kind):
            values[flag.name] += words.value(flag, given)
        else:
            all_given = [shown_words(given) for other, given in words if other is flag]
            words.fail(flag.spelled, f"given {len(all_given)} times, with {' and '.join(all_given)}; give it once.")
    values |= argument_values(page, arguments, words)
    for flag in page.flags.values():
        if flag.default is dataclasses.MISSING and flag.name not in values:
            words.fail(flag.spelled, f"missing; expected {wanted(flag)}{meaning(flag)}.")
    return values


class Words:
    """The words of a command line; iterating yields each flag with its values, and None with each argument."""

    def __init__(self, page: Page, argv: Sequence[str], unknown: Callable[[str], str] | None) -> None:
        self.page, self.argv, self.unknown = page, list(argv), unknown
        self.flags = page.flags

    def __iter__(self) -> Iterator[tuple[Flag | None, list[str]]]:
        index, argv = 0, self.argv
        while index < len(argv):
            word = argv[index]
            index += 1
            if word == "--":
                yield from ((None, [rest]) for rest in argv[index:])
                return
            if not word.startswith("-") or word == "-":
                yield None, [word]
                continue
            name, equals, value = word.partition("=")
            flag, negated = self.find(name)
            if flag is None:
                self.fail(name, self.unknown_flag(name))
            given = [value] if equals else []
            while index < len(argv) and self.takes(flag, len(given), argv[index]):
                given.append(argv[index])
                index += 1
            if negated:
                given = ["false"] if not given else self.fail(name, f"takes no value, got {given[0]!r}.")
            yield flag, given

    def find(self, word: str) -> tuple[Flag | None, bool]:
        """Return the flag that a word is, and whether it is its negative form `--no-...`; None where it is none."""
        if word in ("-h", "--help"):
            return HELP, False
        name = word[2:].replace("-", "_") if word.startswith("--") else ""
        if name in self.flags:
            return self.flags[name], False
        head, _, last = name.rpartition(".")
        flag = self.flags.get(f"{head}.{last[3:]}" if head else last[3:]) if last.startswith("no_") else None
        return (flag, True) if flag and is_switch(flag.kind) else (None, False)

    def takes(self, flag: Flag, count: int, word: str) -> bool:
        """Return whether a flag that has some values takes the next word as well."""
        kind = flag.kind
        most = 0 if kind is bool else len(get_args(kind)) if get_origin(kind) is tuple else 1
        if is_variadic(kind):
            most = 1 if flag.is_repeated else len(self.argv)
        if count >= most or self.find(word.partition("=")[0])[0]:
            return False
        if is_switch(kind):
            return not word.startswith("-")
        return takes_text(kind) or not word.startswith("--")

    def value(self, flag: Flag, given: list[str]) -> Any:
        """Return the value of a flag's words.

        Raises:
            ConfigError: there are too few, or one is no value of the flag's type.
        """
        kind = flag.kind
        if is_switch(kind) and not given:
            return True
        if is_variadic(kind):
            kinds = [get_args(kind)[0]] * max(1, len(given))
        else:
            kinds = list(get_args(kind)) if get_origin(kind) is tuple else [kind]
        if len(given) != len(kinds):
            self.fail(flag.spelled, f"expected {wanted(flag)}, got {' '.join(given) or 'nothing'}{meaning(flag)}.")
        try:
            values = [convert(kind, word) for kind, word in zip(kinds, given, strict=True)]
        except ValueError:
            shown = repr(given[0]) if len(given) == 1 else " ".join(given)
            near = suggest_value(kinds[0], given[0]) if len(given) == 1 else ""
            self.fail(flag.spelled, f"expected {wanted(flag)}, got {shown:.200}{meaning(flag)}.{near}")
        if flag.metavar and "" in values and flag.metavar != "TEXT":
            self.fail(flag.spelled, f"expected {wanted(flag)}, got nothing{meaning(flag)}.")
        return tuple(values) if get_origin(kind) is tuple else values[0]

    def unknown_flag(self, name: str) -> str:
        """Return the message for an unknown flag."""
        if not name.startswith("--") and len(name) == 2:
            return "no such flag. Flags are written out, as in --seed; only -h is short."
        flag = name.lstrip("-").replace("-", "_")
        return self.unknown(flag) if self.unknown else f"no such flag.{suggest_flag(flag, self.flags) or remark(flag)}"

    def fail(self, what: str, problem: str) -> NoReturn:
        """Raise ConfigError on a word of the command line."""
        raise ConfigError(f"{self.page.prog}: {what}: {problem} See {self.page.prog} --help.")


def shown_words(given: list[str]) -> str:
    """Return the values of a flag as an error shows them."""
    return repr(given[0]) if len(given) == 1 and " " in given[0] else " ".join(given) or "nothing"


def argument_values(page: Page, given: list[str], words: Words) -> dict[str, Any]:
    """Return the values of the arguments.

    Raises:
        ConfigError: there are too few or too many.
    """
    values: dict[str, Any] = {}
    left = list(given)
    for argument in page.arguments:
        kind = argument.kind
        count = len(left) if is_variadic(kind) else len(get_args(kind)) if get_origin(kind) is tuple else 1
        mine, left = left[:count], left[count:]
        if mine or argument.default is dataclasses.MISSING:
            if len(mine) < count:
                words.fail(argument.value_name, f"missing{meaning(argument)}.")
            values[argument.name] = words.value(argument, mine)
    if left:
        hint = f" Did you mean {page.stray} {shlex.quote(left[0])}?" if page.stray else ""
        words.fail(repr(left[0]), f"unexpected argument; usage: {page.usage_line}.{hint}")
    return values


def is_variadic(kind: Any) -> bool:
    """Return whether a type is a tuple of any length."""
    return get_origin(kind) is tuple and get_args(kind)[-1] is Ellipsis


def is_switch(kind: Any) -> bool:
    """Return whether a flag of a type needs no value: a bool, or a bool or one of some words."""
    return kind is bool or (get_origin(kind) in UNIONS and bool in get_args(kind))


def takes_text(kind: Any) -> bool:
    """Return whether a value of a type is any text, which may begin with a hyphen."""
    return kind is str or (get_origin(kind) is tuple and str in get_args(kind))


def literal_words(kind: Any) -> dict[str, Any]:
    """Return the words that a type accepts besides numbers and texts, with their values."""
    if kind is NoneType:
        return {"none": None}
    if kind is bool:
        return TRUTH
    if get_origin(kind) in UNIONS:
        return {word: value for option in get_args(kind) for word, value in literal_words(option).items()}
    return {str(value): value for value in get_args(kind)} if get_origin(kind) is Literal else {}


def convert(kind: Any, word: str) -> Any:
    """Return a word as a value of a type.

    Raises:
        ValueError: it is none.
    """
    words = literal_words(kind)
    if word in words:
        return words[word]
    if word in ("True", "False", "None") and word.lower() in words:  # as Python spells them
        return words[word.lower()]
    for option in get_args(kind) if get_origin(kind) in UNIONS else [kind]:
        if option in (int, float, str):
            return option(word)
    raise ValueError(word)


def suggest_value(kind: Any, word: str) -> str:
    """Return the value that was probably meant, as a sentence after a space; empty where there is none."""
    if int in numbers_of(kind) and (
        match := re.fullmatch(r"(\d+(?:\.\d+)?)(k|m|e[0-9])", word.lower().replace("_", ""))
    ):
        factor = {"k": 1e3, "m": 1e6}.get(match[2]) or float(f"1{match[2]}")
        return f" Did you mean {float(match[1]) * factor:.0f}?"
    words = literal_words(kind)
    return f" Did you mean {VALUES[word]!r}?" if VALUES.get(word) in words else did_you_mean(word, words)


def name_of_type(kind: Any) -> str:
    """Return the name that the help shows for the values of a type."""
    if kind is bool:
        return ""
    if get_origin(kind) is tuple:
        first, *rest = get_args(kind)
        return f"{name_of_type(first)} ..." if rest[-1:] == [Ellipsis] else " ".join(map(name_of_type, (first, *rest)))
    numbers = [option.__name__.upper() for option in numbers_of(kind)]
    return "|".join([*numbers, *literal_words(kind)]) or "TEXT"


def numbers_of(kind: Any) -> list[type]:
    """Return the number types that a type accepts."""
    return [option for option in (get_args(kind) if get_origin(kind) in UNIONS else [kind]) if option in (int, float)]


KINDS_OF_TEXT = {
    "TEXT": "a text",
    "NAME": "a name",
    "TOKEN": "the text of a token",
    "TOKEN=X": "a token and a number, such as e=-2",
    "FILE": "a file",
    "FILE.py": "a Python file such as mine.py",
    "DIR": "a folder such as runs/mine",
    "PATH": "a path",
    "RUN": "the folder of a run",
}
"""What the names of values mean, in an error."""


def wanted(flag: Flag) -> str:
    """Return what a flag expects, for an error."""
    kind, default = flag.kind, flag.default
    if get_origin(kind) is tuple and not is_variadic(kind):
        return f"{len(get_args(kind))} values such as {' '.join(map(str, default))}"
    if is_variadic(kind) or kind is str:
        return KINDS_OF_TEXT.get(flag.value_name.removesuffix(" ..."), flag.value_name)
    names = ["a whole number" if number is int else "a number" for number in numbers_of(kind)]
    words = [*names, *literal_words(kind)]
    if len(words) == 1 and type(default) in (int, float):
        return f"{words[0]} such as {default}"
    return " or ".join(words) if len(words) < 3 else f"one of {', '.join(words)}"


def meaning(flag: Flag) -> str:
    """Return the help of a flag as a remark in an error."""
    return f" ({flag.help})" if flag.help else ""


# Looking at the words before the flags are known.


def collect_flags(argv: Sequence[str]) -> FlagValues:
    """Return each flag in the arguments, as a dotted field name, with its values per occurrence."""
    flags: FlagValues = {}
    values: list[str] = []
    for word in argv:
        if word.startswith("--") and len(word) > 2:
            flag, equals, value = word[2:].partition("=")
            values = [value] if equals else []
            head, _, last = flag.replace("-", "_").rpartition(".")
            last = last.removeprefix("no_")
            flags.setdefault(f"{head}.{last}" if head else last, []).append(values)
        else:
            values.append(word)
    return flags


def positional_args(argv: Sequence[str]) -> list[str]:
    """Return the arguments before the first flag."""
    first = next((index for index, word in enumerate(argv) if word.startswith("-")), len(argv))
    return list(argv[:first])


def suggest_flag(flag: str, known: Collection[str]) -> str:
    """Return the flag that was probably meant, as a sentence after a space; empty where there is none.

    It has the same last word, or that meaning in another library, or else a similar name.
    """
    last = flag.rpartition(".")[2]
    same = [name for name in known if name.rpartition(".")[2] == last]
    if not same and (ours := our_flag(last, known)):
        same = [ours]
    if not same:
        return "" if remark(last) else did_you_mean(flag, known).replace("_", "-").replace("'", "'--", 1)
    names = sorted(same, key=lambda name: (name.count("."), name))[:3]
    return f" Did you mean {' or '.join(repr('--' + name.replace('_', '-')) for name in names)}?"


# Dataclasses as flags.


def argument(metavar: str, default: Any = dataclasses.MISSING) -> Any:
    """Return a field that is given by position; required where it has no default."""
    return dataclasses.field(default=default, metadata={"metavar": metavar, "is_argument": True})


def option(metavar: str, default: Any = "") -> Any:
    """Return a field whose value has this name in the help."""
    return dataclasses.field(default=default, metadata={"metavar": metavar})


def repeated(metavar: str) -> Any:
    """Return a field that takes one value per occurrence of its flag, and may occur several times."""
    return dataclasses.field(default=(), metadata={"metavar": metavar, "is_repeated": True})


def flags_of(config: Any, group: str = "") -> list[Flag]:
    """Return the flags of a dataclass, or of a value of one, whose values are the defaults.

    Fields that hold a part or another dataclass are left out: these have flags of their own.
    """
    kind = config if isinstance(config, type) else type(config)
    comments, types = field_comments(kind), fields(kind)
    flags = []
    for field in dataclasses.fields(kind):
        parts = (without_none(types[field.name]), *get_args(without_none(types[field.name])))
        if any(is_slot(part) or dataclasses.is_dataclass(part) for part in parts):
            continue
        default = default_of(field) if isinstance(config, type) else getattr(config, field.name)
        name = f"{group}.{field.name}" if group else field.name
        about = comments.get(field.name, "")
        flags.append(Flag(name=name, kind=types[field.name], default=default, help=about, **field.metadata))
    return flags


def default_of(field: Any) -> Any:
    """Return the default of a dataclass field; MISSING where it has none."""
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def part_flag(slot: str, known: Collection[str], default: str) -> Flag:
    """Return the flag that chooses the part of a slot."""
    return Flag(name=slot, kind=str, default=default, help=f"{slot} to use: {', '.join(known)}", metavar="NAME")


def field_comments(kind: type) -> dict[str, str]:
    """Return the comment on each field of a config, which is its help text; cached."""
    return _field_comments(kind)


@cache
def _field_comments(kind: type) -> dict[str, str]:
    comments: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if dataclasses.is_dataclass(base):
            with suppress(OSError, TypeError):  # a class without a source file has no comments
                comments |= parse_field_comments(textwrap.dedent(inspect.getsource(base)))
    return comments


def parse_field_comments(source: str) -> dict[str, str]:
    """Return the fields of a class with the first comment on the lines of each."""
    (kind,) = ast.parse(source).body
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    texts = {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}
    comments = {}
    for line in kind.body if isinstance(kind, ast.ClassDef) else []:
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
            span = range(line.lineno, (line.end_lineno or line.lineno) + 1)
            if about := next((texts[number] for number in span if number in texts), ""):
                comments[line.target.id] = about
    return comments


HELP = Flag(name="help", kind=bool, default=False, help="show this page and exit")
