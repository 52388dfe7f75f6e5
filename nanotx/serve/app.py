"""The application: its routes, and how each request is answered."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from nanotx.errors import NanotxError
from nanotx.serve import chat, completions, playground
from nanotx.serve.errors import ApiError, as_api_error, json_response
from nanotx.serve.guard import Guard
from nanotx.serve.page import page, page_policy
from nanotx.serve.requests import read_table
from nanotx.serve.run import ServedRun
from nanotx.serve.streaming import EventStream, collected
from nanotx.serve.watch import Watch
from nanotx.serve.worker import Worker

Table = dict[str, Any]
"""A chunk or an answer of the API."""

DONE = b"data: [DONE]\n\n"
"""What ends a stream of the completions API."""

MOST_LOOKS = 8
"""Most requests for maps that wait in line."""


class Service:
    """The runs, and the answers to requests about them."""

    def __init__(self, runs: Sequence[ServedRun], prompt: str = "", watches: Sequence[Watch] = ()) -> None:
        self.runs, self.prompt, self.watches = runs, prompt, watches
        self.worker, self.looks = Worker(), Worker(MOST_LOOKS)

    async def page(self, request: Request) -> Response:
        """Answer with the page."""
        about = [playground.about(run) for run in self.runs]
        html = page(about, prompt=self.prompt, watched=bool(self.watches))
        return HTMLResponse(html, headers={"content-security-policy": page_policy()})

    async def favicon(self, request: Request) -> Response:
        """Answer that there is no icon."""
        return Response(status_code=204)

    async def models(self, request: Request) -> Response:
        """List the models."""
        return json_response({"object": "list", "data": [completions.model_entry(run) for run in self.runs]})

    async def model(self, request: Request) -> Response:
        """Describe a model."""
        return json_response(completions.model_entry(completions.find_run(request.path_params["name"], self.runs)))

    async def complete(self, request: Request) -> ASGIApp:
        """Complete a text, as a stream or at once."""
        wanted = completions.read_request(await read_table(request), self.runs)
        return await self.answered(request, wanted, lambda: completions.answers(wanted), completions.joined)

    async def chat(self, request: Request) -> ASGIApp:
        """Answer a conversation, as a stream or at once."""
        wanted = chat.read_request(await read_table(request), self.runs)
        return await self.answered(request, wanted, lambda: chat.answers(wanted), chat.joined)

    async def answered(
        self,
        request: Request,
        wanted: completions.ApiRequest,
        answers: Callable[[], Iterator[Table]],
        joined: Callable[[Sequence[Table]], Table],
    ) -> ASGIApp:
        """Send the chunks of an answer, which are made in the worker, as a stream or joined, as was asked for."""
        job = self.worker.submit(answers)
        if wanted.stream:
            return EventStream(job, lambda part: completions.streamed(wanted, part), last=DONE)
        chunks = await collected(job, request.receive)
        return json_response(joined(chunks)) if chunks else Response(status_code=499)

    async def generate(self, request: Request) -> ASGIApp:
        """Stream text to the page."""
        wanted = playground.read_wanted(await read_table(request), self.runs)
        return EventStream(self.worker.submit(lambda: playground.events(wanted)), lambda item: [item])

    async def chat_page(self, request: Request) -> ASGIApp:
        """Stream the answers of a chat to the page."""
        wanted = playground.read_chats(await read_table(request), self.runs)
        return EventStream(self.worker.submit(lambda: playground.events(wanted)), lambda item: [item])

    async def attention(self, request: Request) -> Response:
        """Send the map of a head to the page."""
        wanted = playground.read_attention(await read_table(request), self.runs)
        answers = await collected(self.looks.submit(lambda: iter([wanted.answer()])), request.receive)
        return json_response(answers[0]) if answers else Response(status_code=499)

    async def training(self, request: Request) -> Response:
        """Send the page what is new of a run in training."""
        place, version, after = playground.read_training(request.query_params, self.watches)
        return json_response(self.watches[place].since(version, after) | {"about": playground.about(self.runs[place])})

    def close(self) -> None:
        """Cancel what is running."""
        for watch in self.watches:
            watch.close()
        self.worker.close()
        self.looks.close()


def build_app(service: Service) -> ASGIApp:
    """Return the application."""
    app = Starlette(
        routes=[
            Route("/", service.page),
            Route("/favicon.ico", service.favicon),
            Route("/v1/models", service.models),
            Route("/v1/models/{name:path}", service.model),
            Route("/v1/completions", service.complete, methods=["POST"]),
            Route("/v1/chat/completions", service.chat, methods=["POST"]),
            Route("/api/generate", service.generate, methods=["POST"]),
            Route("/api/chat", service.chat_page, methods=["POST"]),
            Route("/api/training", service.training),
            Route("/api/attention", service.attention, methods=["POST"]),
        ],
        exception_handlers={
            ApiError: refused,
            NanotxError: refused,
            HTTPException: refused_by_router,
            Exception: refused,  # a bug of ours, whose traceback goes to standard error
        },
    )
    return Guard(app)


async def refused(request: Request, error: Exception) -> Response:
    """Answer an error."""
    return as_api_error(error).response()


async def refused_by_router(request: Request, error: Exception) -> Response:
    """Answer a path or a method that does not exist."""
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path[:200]}: {error.detail}."
    return ApiError(error.status_code, message, headers=dict(error.headers or {})).response()
