"""One generation at a time, in a thread of its own, so that the event loop stays free; the others wait in line."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any

from nanotx.serve.errors import ApiError

MOST_WAITING = 16
"""Most generations that wait in line; a further one is refused."""


class Worker:
    """Runs jobs in the order in which they come, one at a time."""

    def __init__(self, most_waiting: int = MOST_WAITING) -> None:
        self.most_waiting = most_waiting
        self.turn = asyncio.Lock()
        self.jobs: set[Job] = set()  # in line or running

    def submit(self, work: Callable[[], Iterator[Any]]) -> "Job":
        """Put a job in line.

        Args:
            work: returns the iterator whose items are handed out; both run in the thread.

        Raises:
            ApiError: the line is full.
        """
        if len(self.jobs) > self.most_waiting:
            raise ApiError(
                429,
                f"{len(self.jobs)} generations are running or waiting, and one runs at a time; try again in a moment.",
                kind="rate_limit_error",
                code="queue_full",
            )
        job = Job(self, work)
        self.jobs.add(job)
        return job

    def close(self) -> None:
        """Cancel every job."""
        for job in list(self.jobs):
            job.cancel()


class End:
    """The end of a job's items, with the error that ended them."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error


class Job:
    """A job in line or running; iterate over it, once, for its items. An error of the job is raised there."""

    def __init__(self, worker: Worker, work: Callable[[], Iterator[Any]]) -> None:
        self.worker, self.work = worker, work
        self.cancelled = threading.Event()
        self.items: asyncio.Queue[Any] = asyncio.Queue()
        self.loop = asyncio.get_running_loop()
        self.task = asyncio.create_task(self._run())

    def cancel(self) -> None:
        """End it: in line at once, running after the token in progress."""
        self.cancelled.set()
        self.task.cancel()
        self.items.put_nowait(End())

    async def __aiter__(self) -> AsyncIterator[Any]:
        while not isinstance(item := await self.items.get(), End):
            yield item
        if item.error is not None:
            raise item.error

    async def _run(self) -> None:
        try:
            async with self.worker.turn:
                thread = self.loop.run_in_executor(None, self._work)
                try:
                    await asyncio.shield(thread)
                except asyncio.CancelledError:  # the next one begins when the thread has ended
                    self.cancelled.set()
                    await thread
                    raise
        finally:
            self.worker.jobs.discard(self)

    def _work(self) -> None:
        """Compute the items; runs in the thread."""
        end = End()
        try:
            for item in self.work():
                if self.cancelled.is_set():
                    break
                self._hand_out(item)
        except Exception as error:
            end = End(error)
        self._hand_out(end)

    def _hand_out(self, item: Any) -> None:
        with suppress(RuntimeError):  # the loop has ended
            self.loop.call_soon_threadsafe(self.items.put_nowait, item)
