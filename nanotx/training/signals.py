"""Signals that end a run after saving it, signals that only save it, and the second Ctrl-C, which ends it at once.

A logout, a shutdown or a batch system sends several signals of different kinds, and repeats them: while a save is
pending none of them ends the process. Only a person can want that, by another Ctrl-C half a second later or more.
"""

import atexit
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from types import FrameType

STOPS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGXCPU", "SIGBREAK")
"""Signals that ask for an end; Windows has the first two and the last, other systems all but the last."""

SAVES = ("SIGUSR1", "SIGUSR2")
"""Signals that ask for a checkpoint; Slurm and LSF send them some time before they end a job."""

DELIBERATE = 0.5
"""Seconds between two Ctrl-C from which on the second one ends the process at once."""


process_ends: ContextVar[bool] = ContextVar("process_ends", default=False)
"""Whether the process ends with the command that runs in it; a caller from Python wants its own handlers back."""


ends_at_once: ContextVar[bool] = ContextVar("ends_at_once", default=False)
"""Whether the process must not wait, at its end, for what it still exchanges with another one that may be gone."""


class Interrupted(BaseException):
    """A longer task is to be abandoned, because an end or a checkpoint was asked for.

    Like KeyboardInterrupt it is not an Exception, so code that catches those never takes it for an error of a part.
    """


class EndAtOnce(BaseException):
    """A second, deliberate Ctrl-C; no SystemExit, which a part from elsewhere may raise, and is blamed for."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code  # what the process leaves with


class Stopped(KeyboardInterrupt):
    """Work on several runs was stopped by a signal, after it was saved; like Ctrl-C it is no error."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number  # what a shell expects of a process that was ended by this signal


class Stop:
    """What was asked for by signals: an end, or a checkpoint."""

    def __init__(self) -> None:
        self.signal = 0  # the first signal that asked for an end
        self.save_requested = False  # whether a checkpoint is to be written as soon as may be
        self.working = False  # whether there is something to save; before that, a signal ends the process at once
        self._ctrl_c: float | None = None  # when the first one came

    def __call__(self) -> bool:
        """Return whether an end was asked for."""
        return self.signal != 0

    def check(self) -> None:
        """Raise Interrupted where an end or a checkpoint was asked for."""
        if self.signal or self.save_requested:
            raise Interrupted

    @property
    def exit_code(self) -> int:
        """What a shell expects of a process that was ended by this signal."""
        return 128 + self.signal

    def hear(self, number: int, frame: FrameType | None) -> None:
        """Note a signal that asks for an end.

        Raises:
            EndAtOnce: it is a second Ctrl-C, and not one of the same moment.
            Interrupted: it is the first, and nothing has begun that would have to be saved.
        """
        first, self.signal = not self.signal, self.signal or number
        if number == signal.SIGINT:
            now = time.monotonic()
            if self._ctrl_c is not None and now - self._ctrl_c >= DELIBERATE:
                raise EndAtOnce(128 + number)
            self._ctrl_c = now if self._ctrl_c is None else self._ctrl_c
        if first and not self.working:
            raise Interrupted

    def hear_save(self, number: int, frame: FrameType | None) -> None:
        """Note a signal that asks for a checkpoint."""
        self.save_requested = True


@contextmanager
def listening() -> Iterator[Stop]:
    """Within, signals are noted by a `Stop`; outside the main thread nothing is changed.

    Where the process ends with this command, the handlers of a run that was stopped stay until then, and those of a
    checkpoint always: a signal of the same burst that comes after the save must not change the exit code.
    """
    stop = Stop()
    before = {}
    for name in (*STOPS, *SAVES):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # nohup wants it ignored
            try:
                before[number] = signal.signal(number, stop.hear if name in STOPS else stop.hear_save)
            except ValueError:  # not the main thread
                break
    try:
        with warned_of_cpu_limit():
            yield stop
    finally:
        stop.working = True  # nothing is left that a signal could interrupt
        held = {number for number in before if process_ends.get() and (stop() or signal.Signals(number).name in SAVES)}
        for number in before.keys() - held:
            signal.signal(number, before[number])
        if held:
            atexit.register(partial(ignore, held))  # Python gives its handlers back before the process has ended


def ignore(numbers: Iterable[int]) -> None:
    """Ignore signals from here on."""
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def warned_of_cpu_limit() -> Iterator[None]:
    """Within, SIGXCPU comes before the limit of processor time at which the system kills.

    `ulimit -t` sets the warning and the end to the same second, and the system then kills without a warning. A tenth of
    the time, a minute at most, is left for the last step and its save.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limits
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_CPU)
    early = hard - min(60, max(5, hard // 10), max(1, hard // 2))
    lowered = hard != resource.RLIM_INFINITY and early > 0 and (soft == resource.RLIM_INFINITY or soft > early)
    if lowered:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_CPU, (early, hard))
    try:
        yield
    finally:
        if lowered:
            with suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))
