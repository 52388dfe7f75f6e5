"""The front door's manners: a user's mistake becomes one message and the exit code of its kind, no traceback."""

import os
import sys
from collections.abc import Callable
from typing import NoReturn

from nanotx.errors import NanotxError
from nanotx.harmless import printable


def through(main: Callable[[], int]) -> NoReturn:
    """Run a program and leave with its exit code; only a bug of ours shows a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that cannot show a character shows another
            stream.reconfigure(errors="replace")
    try:
        code = main()
        sys.stdout.flush()
    except NanotxError as error:
        print(printable(f"{type(error).__name__}: {error}"), file=sys.stderr)  # noqa: T201
        code = error.exit_code
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:  # whoever read our output has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    raise SystemExit(code)
