"""Entry point of every program: a user error becomes one message and an exit code, without a traceback."""

import os
import shutil
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

from nanotx.config.help import wrap
from nanotx.config.plugin_errors import plugin_error
from nanotx.errors import ConfigError, MemoryFull, NanotxError, RunError, RunWarning, is_memory_full, printable
from nanotx.hardware.installed import install_problem
from nanotx.training.signals import EndAtOnce, Stopped, ends_at_once, process_ends

MAX_TERMINAL_SIZE = 100_000
"""Largest number of columns or lines accepted as the size of a terminal."""


def parse_size(text: str) -> int:
    """Return the number that an environment variable holds, or 0."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0


def run_and_exit(main: Callable[[], int]) -> NoReturn:
    """Run a program and exit with its code; only a bug in nanotx shows a traceback."""
    token = process_ends.set(True)
    try:
        code = exit_code(main)
    finally:
        process_ends.reset(token)
    if ends_at_once.get():
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)
    raise SystemExit(code)


def exit_code(main: Callable[[], int]) -> int:
    """Run a program and return its exit code; print what a user can correct, and raise what only we can."""
    open_streams()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # replace characters that the terminal cannot show
            stream.reconfigure(errors="replace")
    for name in ("COLUMNS", "LINES"):  # the size of the terminal, as rich takes it; 0 columns would show nothing
        if not 0 < parse_size(os.environ.get(name, "80")) <= MAX_TERMINAL_SIZE:
            del os.environ[name]
    try:
        with warnings.catch_warnings():
            warnings.showwarning = shown_by(warnings.showwarning)
            code = main()
        sys.stdout.flush()
    except NanotxError as error:
        print_error(f"{type(error).__name__}: {error}")
        code = error.exit_code
    except Stopped as stop:
        code = stop.exit_code
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:  # the reader of our output has closed the pipe
        discard_stdout()
        code = 141
    except EndAtOnce as error:
        code = error.code
    except SystemExit as error:  # --help raises it; from a user's part it is an error
        code = report_plugin_error(error)
    except Exception as error:  # a user's part may raise anything
        if isinstance(error, OSError) and error.filename is None and (refused := stdout_error()):
            discard_stdout()
            code = report_stdout_error(refused)
        else:
            code = report_memory_full(error) if is_memory_full(error) else report_plugin_error(error)
    return code


def shown_by(other: Callable[..., None]) -> Callable[..., None]:
    """Return what shows warnings: a RunWarning in one sentence, every other as it was shown before."""

    def show(message: Warning | str, category: type[Warning], *where: Any) -> None:
        if issubclass(category, RunWarning):
            print_error(f"warning: {message}")
        else:
            other(message, category, *where)

    return show


def print_error(message: str) -> None:
    """Print an error to standard error, safe for a terminal; on a terminal, lines break between words."""
    message = printable(message)
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns
        message = "\n".join(wrap(line, width) for line in message.splitlines())
    print(message, file=sys.stderr)  # noqa: T201


def discard_stdout() -> None:
    """Redirect the standard output to the null device, so that flushing it at exit does not fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def stdout_error() -> OSError | None:
    """Return the error of writing to the standard output, or None.

    Called after an error that names no file: an unbuffered stream gives no other hint.
    """
    try:
        sys.stdout.write("\n")
        sys.stdout.flush()
    except OSError as error:
        return error
    return None


def report_stdout_error(refused: OSError) -> int:
    """Report that the standard output cannot be written, and return the exit code."""
    print_error(
        f"RunError: the standard output cannot be written: {refused.strerror}; redirect it to a file, or to "
        f"{os.devnull} to discard it."
    )
    return RunError.exit_code


def open_streams() -> None:
    """Open the standard streams that the shell has closed (`>&-`) on the null device.

    Otherwise the next file that is opened would become the standard output.

    A closed standard output still refuses writes: otherwise output would be lost silently.
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
    """Report an out-of-memory error without a traceback, and return the exit code."""
    print_error(f"MemoryFull: memory is full: {error!s:.300}; try less at a time, or a smaller model or text.")
    return MemoryFull.exit_code


def report_plugin_error(error: BaseException) -> int:
    """Report an error raised by a user's part, or by what is not installed, without a traceback; return the exit code.

    Raises:
        BaseException: the error itself, where it is neither.
    """
    if (config_error := plugin_error(error)) is None:
        if not (problem := install_problem(error)):
            raise error
        print_error(f"ConfigError: {problem}")
        return ConfigError.exit_code
    print_error(f"{type(config_error).__name__}: {config_error} Correct the file and try again.")
    return config_error.exit_code
