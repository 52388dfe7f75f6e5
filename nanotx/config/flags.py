"""Flags: command-line arguments derived from dataclasses through tyro."""

import ast
import dataclasses
import inspect
import io
import textwrap
import tokenize
from collections.abc import Callable, Collection, Sequence
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import tyro

from nanotx.config.schema import fields, is_slot, without_none
from nanotx.errors import ConfigError, did_you_mean

T = TypeVar("T")
FlagValues = dict[str, list[list[str]]]
"""Flag name to its values, one list per occurrence."""


REPEATABLE = ("load", "callback")
"""Flags that may be given several times."""


def parse(kind: type[T], argv: Sequence[str], prog: str, unknown: Callable[[str], str] | None = None) -> T:
    """Parse command-line arguments into a dataclass.

    Args:
        kind: the dataclass; its fields are the flags, nested fields with dots.
        argv: the command-line arguments.
        prog: the command, as shown in its help.
        unknown: returns the message for an unknown flag.

    Raises:
        ConfigError: an unknown flag, a repeated flag, or an extra argument.
        SystemExit: help was requested, or a value cannot be parsed (tyro prints which).
    """
    types = flag_types(kind)
    known = set(types)
    argv = join_text_values(argv, {flag for flag, (one, _) in types.items() if one is str}, known)
    said = collect_flags(argv)
    for flag, values in said.items():
        if flag not in {*known, "help"}:
            say = unknown(flag) if unknown else f"no such flag.{suggest_flag(flag, known)}"
            raise ConfigError(f"--{flag.replace('_', '-')}: {say} All are shown by --help.")
        if len(values) > 1 and flag not in REPEATABLE:
            several = flag in types and get_origin(types[flag][0]) is tuple
            shown = [" ".join(one if several else one[:1]) or "nothing" for one in values]
            twice = " and ".join(repr(one) if " " in one else one for one in shown)
            raise ConfigError(f"--{flag.replace('_', '-')}: given {len(values)} times, with {twice}; give it once.")
        if flag in types and values[0]:
            check_number(flag, *types[flag], values[0][0])
    parsed, left = tyro.cli(kind, args=list(argv), prog=prog, return_unknown_args=True)
    if left:
        raise ConfigError(f"{left[0]!r}: nothing is known to do with this word. {prog} --help shows what is.")
    return parsed


def join_text_values(argv: Sequence[str], ours: Collection[str], known: Collection[str]) -> list[str]:
    """Join text values that begin with a hyphen to their flags: `--prompt -x` becomes `--prompt=-x`.

    Args:
        argv: the command-line arguments.
        ours: the flags whose value is text.
        known: all flags; an argument that is one of them is a flag, never a value.
    """
    found: list[str] = []
    for word in argv:
        flag = found[-1][2:].replace("-", "_") if found and found[-1].startswith("--") else ""
        other = word == "-h" or bool(set(collect_flags([word])) & {*known, "help"})
        if flag in ours and word.startswith("-") and not other:
            found[-1] += f"={word}"
        else:
            found.append(word)
    return found


def check_number(flag: str, kind: Any, about: str, word: str) -> None:
    """Check the value of a flag that takes a number or one of a few literals; tyro's own message lists exceptions.

    Raises:
        ConfigError: the value is neither; the message gives the meaning of the flag.
    """
    options = get_args(kind) if get_origin(kind) in (Union, UnionType) else ()
    numbers = [one for one in options if one in (int, float)]
    words = [str(word) for one in options for word in (get_args(one) if one is not NoneType else ["None"])]
    if len(numbers) != 1 or word in words:
        return
    try:
        numbers[0](word)
    except ValueError:
        number = "a whole number" if numbers[0] is int else "a number"
        wanted = " or ".join([number, *words])
        meaning = f" ({about})" if about else ""
        raise ConfigError(f"--{flag.replace('_', '-')}: expected {wanted}, got {word!r}{meaning}.") from None


def collect_flags(argv: Sequence[str]) -> FlagValues:
    """Return each flag in the arguments, as a dotted field name, with its values per occurrence."""
    found: FlagValues = {}
    values: list[str] = []
    for word in argv:
        if word.startswith("--") and len(word) > 2:
            flag, equals, value = word[2:].partition("=")
            values = [value] if equals else []
            head, _, last = flag.replace("-", "_").rpartition(".")
            last = last.removeprefix("no_")
            found.setdefault(f"{head}.{last}" if head else last, []).append(values)
        else:
            values.append(word)
    return found


def positional_args(argv: Sequence[str]) -> list[str]:
    """Return the arguments before the first flag."""
    first = next((index for index, word in enumerate(argv) if word.startswith("-")), len(argv))
    return list(argv[:first])


def suggest_flag(flag: str, known: Collection[str]) -> str:
    """Return the flag that was probably meant as a sentence: one with the same last word, or else a similar one."""
    same = [name for name in known if name.rpartition(".")[2] == flag.rpartition(".")[2]]
    if not same:
        return did_you_mean(flag, known).replace("_", "-").replace("'", "'--", 1)
    names = sorted(same, key=lambda name: (name.count("."), name))[:3]
    return f" Did you mean {' or '.join(repr('--' + name.replace('_', '-')) for name in names)}?"


def flag_types(kind: Any, at: str = "") -> dict[str, tuple[Any, str]]:
    """Return the dotted name of each flag of a dataclass with its type and help text."""
    found: dict[str, tuple[Any, str]] = {}
    for field in dataclasses.fields(kind):
        annotated = get_origin(field.type) is Annotated  # with its help, perhaps
        inside, *extra = get_args(field.type) if annotated else (field.type,)
        if isinstance(inside, type) and dataclasses.is_dataclass(inside):
            found |= flag_types(inside, f"{at}{field.name}.")
        else:
            about = next((one.help for one in extra if getattr(one, "help", None)), "")
            found[at + field.name.removeprefix(PART_PREFIX)] = (inside, about)
    return found


# Configs as flags.

PART_PREFIX = "pick_"
FlagField = tuple[str, Any, Any]


def part_flag(group: str, known: Collection[str], default: str) -> FlagField:
    """Return the field of the flag that chooses the part of a slot."""
    about = tyro.conf.arg(name=group, help=f"the {group}: {', '.join(known)}", metavar="NAME")
    return PART_PREFIX + group, Annotated[str, about], default


def flags_dataclass(ones: Sequence[Any]) -> type:
    """Return a dataclass of the plain fields of some configs, with the values of the first as defaults."""
    kind = dataclasses.make_dataclass(type(ones[0]).__name__, flag_fields(ones), frozen=True, kw_only=True)
    kind.__doc__ = (type(ones[0]).__doc__ or "").partition("\n")[0]
    return kind


def flag_fields(ones: Sequence[Any]) -> list[FlagField]:
    """Return name, type with help, and default of each plain field of some configs."""
    found: dict[str, FlagField] = {}
    for one in ones:
        about = field_comments(type(one))
        for name, kind in fields(type(one)).items():
            parts = (without_none(kind), *get_args(without_none(kind)))
            if not any(is_slot(part) or dataclasses.is_dataclass(part) for part in parts):
                annotated: Any = Annotated[kind, tyro.conf.arg(help=about.get(name, ""))]
                found.setdefault(name, (name, annotated, getattr(one, name)))
    return list(found.values())


def field_comments(kind: type) -> dict[str, str]:
    """Return the comment on each field of a config, which is its help text; cached."""
    return _field_comments(kind)


@cache
def _field_comments(kind: type) -> dict[str, str]:
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if dataclasses.is_dataclass(base):
            found |= parse_field_comments(textwrap.dedent(inspect.getsource(base)))
    return found


def parse_field_comments(source: str) -> dict[str, str]:
    """Return the fields of a class with the first comment on the lines of each."""
    (kind,) = ast.parse(source).body
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    texts = {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}
    found = {}
    for line in kind.body if isinstance(kind, ast.ClassDef) else []:
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
            span = range(line.lineno, (line.end_lineno or line.lineno) + 1)
            if about := next((texts[number] for number in span if number in texts), ""):
                found[line.target.id] = about
    return found
