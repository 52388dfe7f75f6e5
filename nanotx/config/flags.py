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
import textwrap
import tokenize
from collections.abc import Collection, Sequence
from contextlib import suppress
from functools import cache
from typing import Any, TypeVar, get_args

from nanotx.config.command_line import read_flags
from nanotx.config.help_page import HELP, Flag, Page
from nanotx.config.schema import fields, is_slot, without_none
from nanotx.errors import ConfigError

T = TypeVar("T")


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
