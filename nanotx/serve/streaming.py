"""Answers of jobs: server-sent events while they come, or one response; a client that has gone cancels its job."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from starlette.types import Message, Receive, Scope, Send

from nanotx.serve.errors import as_api_error
from nanotx.serve.worker import Job

SEND_SECONDS = 30.0
"""Longest time that a client may take to read an event."""

EVENTS = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no")]


def event(content: Any) -> bytes:
    """Return a server-sent event; JSON in ASCII holds no line end that could end it."""
    return f"data: {json.dumps(content, allow_nan=False)}\n\n".encode("ascii")


class EventStream:
    """Response that sends the items of a job as server-sent events.

    Args:
        job: the job.
        render: returns the contents of the events of an item.
        last: what follows the last event, also after an error.
    """

    def __init__(self, job: Job, render: Callable[[Any], Iterable[Any]], last: bytes = b"") -> None:
        self.job, self.render, self.last = job, render, last

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response; an error that comes before the first item has a status of its own."""
        watcher = asyncio.create_task(cancel_when_gone(receive, self.job))
        items = aiter(self.job)
        try:
            try:
                first = await anext(items, None)
            except Exception as error:
                await as_api_error(error).response()(scope, receive, send)
                return
            await deliver(send, {"type": "http.response.start", "status": 200, "headers": EVENTS})
            await self._send_events(send, first, items)
            await deliver(send, body(self.last, more=False))
        except TimeoutError:  # the client reads nothing
            return
        finally:
            watcher.cancel()
            self.job.cancel()

    async def _send_events(self, send: Send, first: Any, items: AsyncIterator[Any]) -> None:
        try:
            for content in self.render(first) if first is not None else ():
                await deliver(send, body(event(content)))
            async for item in items:
                for content in self.render(item):
                    await deliver(send, body(event(content)))
        except TimeoutError:
            raise
        except Exception as error:
            await deliver(send, body(event(as_api_error(error).to_dict())))


async def collected(job: Job, receive: Receive) -> list[Any]:
    """Return all items of a job.

    Raises:
        Exception: that of the job.
    """
    watcher = asyncio.create_task(cancel_when_gone(receive, job))
    try:
        return [item async for item in job]
    finally:
        watcher.cancel()
        job.cancel()


async def cancel_when_gone(receive: Receive, job: Job) -> None:
    """Cancel a job when its client has disconnected."""
    while (await receive())["type"] != "http.disconnect":
        pass
    job.cancel()


async def deliver(send: Send, message: Message) -> None:
    """Send a message.

    Raises:
        TimeoutError: the client does not read.
    """
    async with asyncio.timeout(SEND_SECONDS):
        await send(message)


def body(data: bytes, more: bool = True) -> Message:
    """Return a message with a part of the body."""
    return {"type": "http.response.body", "body": data, "more_body": more}
