"""Reading a command line: words become the values of the flags that a page has."""

import dataclasses
import shlex
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NoReturn, get_args, get_origin

from nanotx.config.flag_values import (
    convert,
    is_switch,
    is_variadic,
    literal_words,
    numbers_of,
    suggest_value,
    takes_text,
)
from nanotx.config.help import page_width, write_page
from nanotx.config.help_page import HELP, Flag, Page
from nanotx.config.other_names import our_flag, remark
from nanotx.config.schema import without_none
from nanotx.errors import ConfigError, did_you_mean

FlagValues = dict[str, list[list[str]]]
"""Flag name to its values, one list per occurrence."""


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
        """Return the flag that a word is, and whether it is its negative form `--no-...`; None for any other word."""
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
    "PATTERN": "a pattern of names",
}
"""What the names of values mean, in an error."""


def wanted(flag: Flag) -> str:
    """Return what a flag expects, for an error."""
    kind, default = flag.kind, flag.default
    if get_origin(kind) is tuple and not is_variadic(kind):
        return f"{len(get_args(kind))} values such as {' '.join(map(str, default))}"
    if is_variadic(kind) or without_none(kind) is str:
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
