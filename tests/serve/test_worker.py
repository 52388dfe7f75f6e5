"""One generation at a time: in order, cancelled where its client has gone, and a bounded line."""

import asyncio
import threading
import time

import pytest
from served import loaded, served

from nanotx.serve.app import Service, build_app
from nanotx.serve.errors import ApiError
from nanotx.serve.worker import Worker


def test_jobs_run_one_at_a_time_in_their_order():
    running, seen = [], []

    def work(name):
        running.append(name)
        assert len(running) == 1
        for _ in range(3):
            time.sleep(0.001)
            yield name
        running.remove(name)

    async def submit():
        worker = Worker()
        for job in [worker.submit(lambda name=name: work(name)) for name in "abc"]:
            seen.extend([item async for item in job])

    asyncio.run(submit())
    assert seen == [*"aaabbbccc"]


def test_full_line_refuses_and_has_room_again():
    async def submit():
        worker, hold = Worker(most_waiting=2), threading.Event()
        jobs = [worker.submit(lambda: iter([hold.wait(5)])) for _ in range(3)]
        with pytest.raises(ApiError, match="3 generations are running or waiting") as refused:
            worker.submit(lambda: iter([]))
        assert refused.value.status == 429 and refused.value.code == "queue_full"
        hold.set()
        assert [[item async for item in job] for job in jobs] == [[True]] * 3
        while worker.jobs:
            await asyncio.sleep(0.001)
        worker.submit(lambda: iter([]))

    asyncio.run(submit())


def test_cancelled_job_ends_and_the_next_one_begins_after_its_thread():
    async def submit():
        worker, ended = Worker(), threading.Event()

        def endless():
            try:
                while True:
                    time.sleep(0.001)
                    yield 1
            finally:
                ended.set()

        first, waiting = worker.submit(endless), worker.submit(endless)
        last = worker.submit(lambda: iter([ended.is_set()]))
        assert await anext(aiter(first)) == 1
        waiting.cancel()
        first.cancel()
        assert [item async for item in last] == [True]
        assert [item async for item in waiting] == []

    asyncio.run(submit())


def test_error_of_a_job_is_raised_where_its_items_are_read():
    def work():
        yield 1
        raise ValueError("two")

    async def submit():
        job = Worker().submit(work)
        items = aiter(job)
        assert await anext(items) == 1
        with pytest.raises(ValueError, match="two"):
            await anext(items)

    asyncio.run(submit())


@pytest.mark.parametrize("stream", [b"true", b"false"])
def test_client_that_goes_cancels_its_generation(monkeypatch, stream):
    """An ASGI client that sends a request and disconnects."""
    service = Service(served(monkeypatch, loaded()))
    body = b'{"model": "a", "prompt": "to be", "max_tokens": 4096, "stream": ' + stream + b"}"
    scope = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "1.1", "method": "POST",
        "path": "/v1/completions", "raw_path": b"/v1/completions", "query_string": b"", "root_path": "",
        "scheme": "http",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
        "server": ("127.0.0.1", 8000), "client": ("127.0.0.1", 1),
    }  # fmt: skip

    async def ask():
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive():
            if messages:
                return messages.pop()
            await asyncio.sleep(0.05)
            return {"type": "http.disconnect"}

        async def send(message):
            pass

        began = time.monotonic()
        await build_app(service)(scope, receive, send)
        while service.worker.jobs:
            await asyncio.sleep(0.001)
        return time.monotonic() - began

    completed = []
    monkeypatch.setattr("nanotx.serve.completions.usage", completed.append)
    asyncio.run(ask())
    assert not completed
