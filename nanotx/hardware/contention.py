"""Contention: how long the threads of this process were ready to run, but waited while others used the processor.

Linux counts it for each thread, in `/proc/self/task/*/schedstat`: nanoseconds that it ran, nanoseconds that it waited
in the run queue, and the number of its time slices. Other systems do not say.
Source: https://docs.kernel.org/scheduler/sched-stats.html
"""

import time
from collections.abc import Callable
from pathlib import Path

from nanotx.hardware.cgroup import read_kernel_file

TASKS = Path("/proc/self/task")
"""A folder for each thread of this process."""


def waiting_time(tasks: Path = TASKS) -> dict[str, float]:
    """Return the seconds that each thread of this process has waited for a processor; none where no system counts."""
    waited = {}
    for task in tasks.glob("*") if tasks.is_dir() else ():
        fields = read_kernel_file(task / "schedstat").split()  # a thread may end meanwhile
        if len(fields) == 3 and all(field.isdecimal() for field in fields):
            waited[task.name] = int(fields[1]) / 1e9
    return waited


class Contention:
    """Measure over stretches of time how many threads of this process waited for a processor, on average."""

    def __init__(
        self, read: Callable[[], dict[str, float]] = waiting_time, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        """Begin the first stretch.

        Args:
            read: returns the seconds that each thread has waited.
            clock: returns seconds.
        """
        self._read, self._clock = read, clock
        self._waited, self._since = read(), clock()

    @property
    def seconds(self) -> float:
        """The length of the present stretch so far."""
        return self._clock() - self._since

    def waiting_threads(self) -> float:
        """Return the mean number of threads that waited in the present stretch, and begin the next one."""
        before, since = self._waited, self._since
        self._waited, self._since = self._read(), self._clock()
        waited = sum(max(0.0, now - before.get(thread, 0.0)) for thread, now in self._waited.items())
        return waited / max(self._since - since, 1e-9)
