"""Signals that end a run after saving it, signals that only save it, and the second Ctrl-C, which ends it at once.

A logout, a shutdown or a batch system sends several signals of different kinds, and repeats them: while a save is
pending none of them ends the process. Only a person can want that, by another Ctrl-C half a second later or more.
"""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

STOPS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGXCPU", "SIGBREAK")
"""Signals that ask for an end; Windows has the first two and the last, other systems all but the last."""

SAVES = ("SIGUSR1", "SIGUSR2")
"""Signals that ask for a checkpoint; Slurm and LSF send them some time before they end a job."""

DELIBERATE = 0.5
"""Seconds between two Ctrl-C from which on the second one ends the process at once."""


class Interrupted(BaseException):
    """A longer task is to be abandoned, because an end or a checkpoint was asked for.

    As KeyboardInterrupt it is no Exception, so that nobody who catches those takes it for a fault of a part.
    """


class EndAtOnce(BaseException):
    """A second, deliberate Ctrl-C; no SystemExit, which a part from elsewhere may raise, and is blamed for."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code  # what the process leaves with


class Stop:
    """What was asked for by signals: an end, or a checkpoint."""

    def __init__(self) -> None:
        self.signal = 0  # the first signal that asked for an end
        self.save_requested = False  # whether a checkpoint is to be written as soon as may be
        self.working = False  # whether there is something to save; before that, a signal ends the process at once
        self._ctrl_c: float | None = None  # when the first one came

    def __call__(self) -> bool:
        """Whether an end was asked for."""
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
    """Within, signals are noted by a `Stop`; outside the main thread nothing is changed."""
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
        for number, handler in before.items():
            signal.signal(number, handler)


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
