"""Errors of parts that do not come with nanotx (`--load`, entry points): each message names the part and its file."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from traceback import walk_tb
from typing import Any

from nanotx.config.registry import LOADED, Slot, file_of, is_foreign
from nanotx.errors import ConfigError, NanotxError, is_memory_full


@contextmanager
def name_part_in_errors(part: type[Any]) -> Iterator[None]:
    """Turn any error that a part raises inside this context into one message that names the part."""
    try:
        yield
    except NanotxError:
        raise
    except (Exception, SystemExit) as error:  # a part from outside the package may raise anything
        if is_memory_full(error):
            raise
        raise ConfigError(
            f"{describe_part(part)}{describe_line(error, file_of(part))} {describe_error(error)}."
        ) from error


def plugin_error(error: BaseException) -> ConfigError | None:
    """Return the message for an error that passed through a file from outside the package; None otherwise."""
    files = {file for part in foreign_parts() if (file := file_of(part))} | {
        str(module.__file__) for name, module in list(sys.modules.items()) if name.startswith(LOADED)
    }
    through = [frame.f_code.co_filename for frame, _ in walk_tb(error.__traceback__)]
    for file in reversed(through):
        if file in files:
            titles = sorted(describe_part(part) for part in foreign_parts() if file_of(part) == file)
            name = titles[0] if len(titles) == 1 else f"{file}"
            return ConfigError(f"{name}{describe_line(error, file)} {describe_error(error)}.")
    return None


def foreign_parts() -> list[type[Any]]:
    """Return all registered parts that do not come with nanotx."""
    return [part for slot in Slot.__subclasses__() for part in slot.registered.values() if is_foreign(part)]


def describe_part(part: type[Any]) -> str:
    """Return the slot, name and file of a part."""
    return f"{part.slot} {part.part!r} ({file_of(part) or part.__module__})"


def describe_line(error: BaseException, file: str) -> str:
    """Return the line of a file at which an error was raised, as a phrase that the error follows."""
    lines = [line for frame, line in walk_tb(error.__traceback__) if frame.f_code.co_filename == file]
    return f": line {lines[-1]} raises" if lines else ": using it raises"


def describe_error(error: BaseException) -> str:
    """Return the type and the first line of an error."""
    message = str(error).strip().partition("\n")[0].rstrip(".")
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


class PartCheck:
    """Checks of a part, with errors that name it."""

    def __init__(self, part: Any, where: str) -> None:
        self.part, self.where = part if isinstance(part, type) else type(part), where

    def expect(self, ok: bool, got: object, expected: str) -> None:
        """Raise ConfigError unless `ok`; the message states what was got and what was expected."""
        if not ok:
            raise ConfigError(
                f"{describe_part(self.part)}: {got}; expected {expected}. Correct the file and try again."
            )


def describe_value(value: object) -> str:
    """Describe a value that a part returned, in a few words."""
    kind = type(value).__name__
    if kind in ("Tensor", "ndarray"):
        dtype, shape = str(getattr(value, "dtype", "")), tuple(getattr(value, "shape", ()))
        return f"{'a tensor' if kind == 'Tensor' else 'an array'} of {dtype.removeprefix('torch.')} of shape {shape}"
    return "None" if value is None else f"a {kind}"
