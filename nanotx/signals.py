"""Ctrl-C and its kin: the first one asks for an end after this step, the second ends at once."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(Exception):
    """Somebody asked for an end while something longer was at work."""


class Stop:
    """Whether somebody asked for an end, and by which signal."""

    def __init__(self) -> None:
        self.signal = 0

    def __call__(self) -> bool:
        return self.signal != 0

    def check(self) -> None:
        """Raise Interrupted where somebody asked."""
        if self.signal:
            raise Interrupted

    @property
    def exit_code(self) -> int:
        """What a shell expects of a process ended by this signal."""
        return 128 + self.signal

    def hear(self, number: int, frame: FrameType | None) -> None:
        """Take note; a second signal ends the process at once."""
        if self.signal:
            raise SystemExit(128 + number)
        self.signal = number


@contextmanager
def listening() -> Iterator[Stop]:
    """Within, the signals that end a program are heard by a `Stop`; outside the main thread nothing is changed."""
    stop = Stop()
    before = {}
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # Windows has no SIGHUP
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # nohup wants it unheard
            try:
                before[number] = signal.signal(number, stop.hear)
            except ValueError:  # not the main thread
                break
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
