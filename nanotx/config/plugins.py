"""Parts of the user's own (`--load`, entry points): tried on a small input before a run, named when they fail."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from traceback import walk_tb
from typing import Any

from nanotx.config.registry import LOADED, Slot, file_of, is_foreign
from nanotx.errors import ConfigError, NanotxError, is_memory_full


@contextmanager
def named(part: type[Any]) -> Iterator[None]:
    """Within, whatever a part raises becomes one message that names it."""
    try:
        yield
    except NanotxError:
        raise
    except (Exception, SystemExit) as error:  # a part may be anyone's, and raise anything
        if is_memory_full(error):
            raise
        raise ConfigError(f"{title(part)}{line_of(error, file_of(part))} {in_words(error)}.") from error


def blame(error: BaseException) -> ConfigError | None:
    """What to say of an error that passed through a file brought from elsewhere; None where it did not."""
    files = {file for part in parts() if (file := file_of(part))} | {
        str(module.__file__) for name, module in list(sys.modules.items()) if name.startswith(LOADED)
    }
    through = [frame.f_code.co_filename for frame, _ in walk_tb(error.__traceback__)]
    for file in reversed(through):
        if file in files:
            titles = sorted(title(part) for part in parts() if file_of(part) == file)
            name = titles[0] if len(titles) == 1 else f"{file}"
            return ConfigError(f"{name}{line_of(error, file)} {in_words(error)}.")
    return None


def parts() -> list[type[Any]]:
    """All parts from elsewhere that have been brought."""
    return [part for slot in Slot.__subclasses__() for part in slot.registered.values() if is_foreign(part)]


def title(part: type[Any]) -> str:
    """A part, and the file that it is from."""
    return f"{part.slot} {part.part!r} ({file_of(part) or part.__module__})"


def line_of(error: BaseException, file: str) -> str:
    """At which line of a file an error arose, as the end of a subject."""
    lines = [line for frame, line in walk_tb(error.__traceback__) if frame.f_code.co_filename == file]
    return f": line {lines[-1]} raises" if lines else ": using it raises"


def in_words(error: BaseException) -> str:
    """An error's kind and its first line."""
    said = str(error).strip().partition("\n")[0].rstrip(".")
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


class Told:
    """What to say of a part that is wrong."""

    def __init__(self, part: Any, where: str) -> None:
        self.part, self.where = part if isinstance(part, type) else type(part), where

    def wanted(self, right: bool, came: object, wish: str) -> None:
        """Raise ConfigError unless it is right."""
        if not right:
            raise ConfigError(f"{title(self.part)}: {came}; expected {wish}. Correct the file and try again.")


def described(found: object) -> str:
    """A value that a part returned, in a few words."""
    kind = type(found).__name__
    if kind in ("Tensor", "ndarray"):
        dtype, shape = str(getattr(found, "dtype", "")), tuple(getattr(found, "shape", ()))
        return f"{'a tensor' if kind == 'Tensor' else 'an array'} of {dtype.removeprefix('torch.')} of shape {shape}"
    return "None" if found is None else f"a {kind}"
