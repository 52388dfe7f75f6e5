"""A checkpoint that a thread writes, while the next steps are taken.

The thread is given a copy of the state, so no step changes what it writes. It calls no operation of PyTorch that
divides its work among threads: those of the steps keep theirs, and their bits. On Linux it has a lower priority than
they have, because the threads of a step wait for each other: one that shares its processor holds up all.
"""

import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

from nanotx.errors import RunError

NICENESS = 5
"""Added to that of the process for the thread that writes, on Linux, where each thread has its own."""


class BackgroundSave:
    """A checkpoint under way: a thread writes and publishes it."""

    def __init__(self, step: int, write: Callable[[], str]) -> None:
        """Start the thread; where the system allows no other one, return when the checkpoint is written.

        Args:
            step: of the checkpoint.
            write: writes and publishes it; returns a warning for the user, or "".
        """
        self.step = step
        self._write, self._warning = write, ""
        self._error: BaseException | None = None
        self._over = threading.Event()
        try:
            threading.Thread(target=self._run_beside, name="nanotx-save", daemon=True).start()
        except RuntimeError:
            self._run()

    @property
    def done(self) -> bool:
        """Return whether it is published, or has failed."""
        return self._over.is_set()

    def wait(self) -> None:
        """Return when it is done; a signal's handler may raise meanwhile."""
        self._over.wait()

    def result(self) -> str:
        """Return the warning of a checkpoint that is done, or "".

        Raises:
            BaseException: what writing it has raised.
        """
        if self._error is not None:
            raise self._error
        return self._warning

    def _run_beside(self) -> None:
        if sys.platform == "linux":
            with suppress(OSError):
                lower = os.getpriority(os.PRIO_PROCESS, 0) + NICENESS
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), lower)
        self._run()

    def _run(self) -> None:
        try:
            self._warning = self._write()
        except RunError as error:
            self._error, error.__context__ = error.with_traceback(None), None  # their frames hold the copy
        except BaseException as error:  # raised again in the thread of the steps
            self._error = error
        finally:
            del self._write  # and with it the copy of the state
            self._over.set()
