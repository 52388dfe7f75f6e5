"""What the page asks for: text or an answer that streams in, the likeliest tokens at each place, the map of a head.

These routes serve the page that comes with them, and may change with it; `/v1` is for other programs.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from torch import Tensor

from nanotx.config.schema import INT_LIMIT
from nanotx.data.conversations import Conversation
from nanotx.errors import ConfigError
from nanotx.lens.capture import capture
from nanotx.lens.remove import removal_edits
from nanotx.lens.sites import find_head
from nanotx.runs.load import LoadedRun
from nanotx.serve.chat import read_messages
from nanotx.serve.completions import MOST_TOKENS, read_sampling
from nanotx.serve.continuation import Continuation, ShownToken, Wanted, removed
from nanotx.serve.errors import ApiError, as_api_error
from nanotx.serve.requests import Fields
from nanotx.serve.run import ServedRun, head_names, spelling
from nanotx.serve.watch import Watch

LIKELIEST = 10
"""Alternatives that the page shows for each token."""

MOST_REMOVED = 1024
"""Most parts that a request may remove."""

MOST_MAPPED = 128
"""Most tokens of an attention map on the page."""

SAMPLING = ("max_tokens", "temperature", "top_k", "top_p", "min_p", "seed", "removed")
GENERATE, CHAT = ("prompt", *SAMPLING), ("messages", *SAMPLING)
ATTENTION = ("run", "ids", "head", "removed")


# Text.


def read_wanted(table: dict[str, Any], runs: Sequence[ServedRun]) -> list[tuple[ServedRun, Wanted]]:
    """Return what the page wants of each run; all continue one prompt, each with parts of its own removed.

    Raises:
        ApiError: a field is unknown or has a wrong value.
        ConfigError: a number is out of range.
    """
    fields = Fields(table, GENERATE)
    return read_texts(fields, runs, [(fields.text("prompt"), ())] * len(runs))


def read_chats(table: dict[str, Any], runs: Sequence[ServedRun]) -> list[tuple[ServedRun, Wanted]]:
    """Return what the page wants of each run in a chat: each answers a conversation of its own.

    Raises:
        ApiError: a field is unknown or has a wrong value, or a message is wrong.
        ConfigError: a number is out of range.
    """
    fields = Fields(table, CHAT)
    chats = fields.take("messages", list, [], f"a list of messages for each of {len(runs)} runs")
    if len(chats) != len(runs) or not all(isinstance(chat, list) for chat in chats):
        raise ApiError(400, f"messages: expected a list of them for each of {len(runs)} runs.", param="messages")
    return read_texts(fields, runs, [("", read_messages("messages", chat)) for chat in chats])


def read_texts(
    fields: Fields, runs: Sequence[ServedRun], prompts: Sequence[tuple[str, Conversation]]
) -> list[tuple[ServedRun, Wanted]]:
    """Return what the page wants of each run: the continuation of its prompt, or the answer to its conversation.

    Raises:
        ApiError: a field has a wrong value.
        ConfigError: a number is out of range.
    """
    removals = fields.take("removed", list, [[] for _ in runs], f"a list of parts for each of {len(runs)} runs")
    if len(removals) != len(runs):
        raise ApiError(400, f"removed: expected a list for each of {len(runs)} runs.", param="removed")
    sampling = read_sampling(fields, temperature=0.8)
    return [
        (
            run,
            Wanted(
                prompt=prompt,
                messages=messages,
                drops=True,
                max_tokens=fields.count("max_tokens", 200, 1, MOST_TOKENS) or 1,
                sampling=sampling,
                top=LIKELIEST,
                removed=Fields({"removed": names}, ("removed",)).texts("removed", MOST_REMOVED, 80),
            ),
        )
        for run, names, (prompt, messages) in zip(runs, removals, prompts, strict=True)
    ]


def events(wanted: Sequence[tuple[ServedRun, Wanted]]) -> Iterator[dict[str, Any]]:
    """Yield what the page shows, one run and the other by turns; runs in the worker's thread.

    An error of one run ends that run alone.
    """
    streams = {place: run_events(*request) for place, request in enumerate(wanted)}
    while streams:
        for place, stream in list(streams.items()):
            try:
                yield {"run": place} | next(stream)
            except StopIteration:
                del streams[place]
            except Exception as error:
                del streams[place]
                yield {"run": place} | as_api_error(error).to_dict()


def run_events(run: ServedRun, wanted: Wanted) -> Iterator[dict[str, Any]]:
    """Yield the events of one run: the prompt, the pieces, the end."""
    continuation = Continuation(run, wanted)
    loaded = continuation.loaded
    yield {
        "prompt": [shown(loaded, token) for token in continuation.prompt_tokens()],
        "left_out": continuation.left_out,
        "dropped": continuation.dropped,
        "step": loaded.step,
    }
    for piece in continuation:
        if piece.tokens or piece.text:
            yield {"tokens": [shown(loaded, token) for token in piece.tokens], "text": piece.text}
    if continuation.ended_at is not None:
        yield {"tokens": [shown(loaded, continuation.ended_at)]}
    yield {"end": continuation.finish_reason}


def shown(loaded: LoadedRun, token: ShownToken) -> dict[str, Any]:
    """Return a token with its probability and the likeliest at its place."""
    codec = loaded.tokenizer
    return {
        "id": token.id,
        "text": spelling(codec, token.id),
        "p": None if token.log_prob is None else round(math.exp(token.log_prob), 5),
        "top": [[spelling(codec, other), round(math.exp(log_prob), 5), other] for other, log_prob in token.top],
    }


# Attention.


def read_attention(table: dict[str, Any], runs: Sequence[ServedRun]) -> "AttentionRequest":
    """Return a request for the map of a head.

    Raises:
        ApiError: a field is unknown or has a wrong value.
    """
    return AttentionRequest(Fields(table, ATTENTION), runs)


class AttentionRequest:
    """A request for the attention map of a head over the last tokens of a text."""

    def __init__(self, fields: Fields, runs: Sequence[ServedRun]) -> None:
        self.run = runs[fields.count("run", 0, 0, len(runs) - 1) or 0]
        self.head = fields.text("head")
        self.removed = fields.texts("removed", MOST_REMOVED, 80)
        self.ids = fields.take("ids", list, [], "a list of ids")
        if not self.ids or not all(type(token) is int and 0 <= token < INT_LIMIT for token in self.ids):
            raise ApiError(400, "ids: expected a list of ids, with one at least.", param="ids")

    def answer(self) -> dict[str, Any]:
        """Return the map: a row for each token, with a weight for each token that it may look at.

        Raises:
            ConfigError: there is no such head, or its attention has no weights.
        """
        loaded = self.run.loaded
        ids = self.ids[-loaded.model.context :]
        site, head = find_head(loaded.model, self.head)
        with (
            self.run.lock,
            removed(loaded.model, removal_edits(loaded.model, self.removed)),
            capture(loaded.model, ids) as c,
        ):
            weights = c[f"{site.module}.weights{site.use}"][0, head].float().cpu()
        first = max(0, len(ids) - MOST_MAPPED)
        return {"first": len(self.ids) - len(ids) + first, "rows": thousandths(weights, first)}


def thousandths(weights: Tensor, first: int) -> list[list[int]]:
    """Return the rows of a map from a token on, each up to its diagonal; weights are in thousandths."""
    rows = (1000 * weights[first:, first:]).round().int().tolist()
    return [row[: place + 1] for place, row in enumerate(rows)]


# Training.


def read_training(query: Mapping[str, str], watches: Sequence[Watch]) -> tuple[int, list[int], list[int]]:
    """Return which run the page asks about, and the version and the number of the points and frames that it has.

    Raises:
        ApiError: no run is watched, or a number is missing.
    """
    if not watches:
        raise ApiError(404, "No run is watched; start the server with --watch.")
    try:
        place, version, after = int(query["run"]), pair(query["version"]), pair(query["after"])
    except (KeyError, ValueError):
        raise ApiError(400, "training: expected numbers, as in ?run=0&version=0,0&after=0,0.") from None
    if not 0 <= place < len(watches) or min(after) < 0:
        raise ApiError(400, f"run: expected a number from 0 to {len(watches) - 1}.", param="run")
    return place, version, after


def pair(text: str) -> list[int]:
    """Return two numbers.

    Raises:
        ValueError: there are others.
    """
    first, second = text[:40].split(",")
    return [int(first), int(second)]


# About the runs.


def about(run: ServedRun) -> dict[str, Any]:
    """Return what the page shows of a run."""
    if run.newest is None:
        return {"name": run.name, "step": None}
    loaded = run.newest
    heads: list[list[str]] = []
    with suppress(ConfigError):
        heads = head_names(loaded)
    return {
        "name": run.name,
        "step": loaded.step,
        "parameters": sum(parameter.numel() for parameter in loaded.model.parameters()),
        "context": loaded.model.context,
        "tokenizer": f"{loaded.tokenizer.part} of {loaded.tokenizer.vocab_size:,}",
        "vocab_size": loaded.tokenizer.vocab_size,
        "heads": heads,
        "chats": bool(loaded.tokenizer.chat_template),
    }
