"""Entry point of every program: a user's mistake becomes one message and the exit code of its kind, no traceback."""

import os
import sys
from collections.abc import Callable
from typing import NoReturn

from nanotx.config.plugins import plugin_error
from nanotx.errors import MemoryFull, NanotxError, RunError, is_memory_full, printable
from nanotx.training.signals import EndAtOnce, process_ends

MAX_TERMINAL_SIZE = 100_000
"""Columns or lines beyond which a terminal is none."""


def parse_size(text: str) -> int:
    """A number that an environment variable holds; 0 where it holds none."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0


def run_and_exit(main: Callable[[], int]) -> NoReturn:
    """Run a program and leave with its exit code; only a bug of ours shows a traceback."""
    process_ends.set(True)
    open_streams()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that cannot show a character shows another
            stream.reconfigure(errors="replace")
    for name in ("COLUMNS", "LINES"):  # the size of the terminal, as rich takes it; 0 columns would show nothing
        if not 0 < parse_size(os.environ.get(name, "80")) <= MAX_TERMINAL_SIZE:
            del os.environ[name]
    try:
        code = main()
        sys.stdout.flush()
    except NanotxError as error:
        print(printable(f"{type(error).__name__}: {error}"), file=sys.stderr)  # noqa: T201
        code = error.exit_code
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:  # whoever read our output has left
        discard_stdout()
        code = 141
    except EndAtOnce as error:
        code = error.code
    except SystemExit as error:  # --help raises it, and its code stands; a part from elsewhere has failed by it
        if "nanotx.config.plugins" not in sys.modules:
            raise
        code = report_plugin_error(error)
    except Exception as error:  # a part from elsewhere may raise anything
        if isinstance(error, OSError) and error.filename is None and (refused := stdout_error()):
            discard_stdout()
            code = report_stdout_error(refused)
        else:
            code = report_memory_full(error) if is_memory_full(error) else report_plugin_error(error)
    raise SystemExit(code)


def discard_stdout() -> None:
    """Have what is still to be written to the standard output go nowhere, so that the end of the process is quiet."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def stdout_error() -> OSError | None:
    """Why the standard output cannot be written; None where it can.

    It is asked once more, after an error that names no file: without a buffer nothing tells it from another.
    """
    try:
        sys.stdout.write("\n")
        sys.stdout.flush()
    except OSError as error:
        return error
    return None


def report_stdout_error(refused: OSError) -> int:
    """The exit code where what was to be printed is lost, which is said without a traceback."""
    said = f"RunError: the standard output cannot be written: {refused.strerror}; redirect it to a file, or to "
    print(printable(f"{said}{os.devnull} if nothing of it is wanted."), file=sys.stderr)  # noqa: T201
    return RunError.exit_code


def open_streams() -> None:
    """Open what the shell has closed (`>&-`) on nothing, so that no file of ours is taken for the standard output.

    A standard output that was closed still refuses what is written to it: what is asked for would be lost in silence.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            nothing = os.open(os.devnull, os.O_RDONLY if name == "stdout" else os.O_RDWR)
            if nothing != number:
                os.dup2(nothing, number)
                os.close(nothing)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False))  # noqa: SIM115


def report_memory_full(error: BaseException) -> int:
    """The exit code of an error that says that memory could not be had, which is printed without a traceback."""
    said = f"MemoryFull: memory is full: {error!s:.300}; try less at a time, or a smaller model or text."
    print(printable(said), file=sys.stderr)  # noqa: T201
    return MemoryFull.exit_code


def report_plugin_error(error: BaseException) -> int:
    """The exit code of an error that a part from elsewhere raised, which is told without a traceback; else it is ours.

    Raises:
        BaseException: the error itself, where no such part had to do with it.
    """
    if "nanotx.config.registry" not in sys.modules:
        raise error
    if (told := plugin_error(error)) is None:
        raise error
    print(printable(f"{type(told).__name__}: {told} Correct the file and try again."), file=sys.stderr)  # noqa: T201
    return told.exit_code
