"""Chat completions, `/v1/chat/completions`, as the OpenAI client speaks it, of runs with a chat template.

What is not supported is refused, as in `completions`.
Source: https://platform.openai.com/docs/api-reference/chat
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from nanotx.data.conversations import USER, Conversation, checked_messages
from nanotx.errors import DataError
from nanotx.serve.completions import (
    LONGEST_STOP,
    MOST_LOG_PROBS,
    MOST_STOPS,
    MOST_TOKENS,
    OWN,
    ApiRequest,
    answer_of,
    check_only,
    ending,
    find_run,
    read_sampling,
    read_stream_options,
    with_own,
)
from nanotx.serve.continuation import Continuation, Piece, ShownToken, Wanted, chat_template
from nanotx.serve.errors import ApiError
from nanotx.serve.requests import Fields
from nanotx.serve.run import ServedRun, finite, spelling
from nanotx.tokenizers import Codec

MOST_MESSAGES = 1000
"""Most messages of a conversation: its template is run once for each answer in it."""

EXAMPLE = '[{"role": "user", "content": "Hello."}]'

ONLY: dict[str, int | str] = {"n": 1}
"""Fields of which only one value is supported."""

KNOWN = (
    "model", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", *OWN, "seed", "stop",
    "logprobs", "top_logprobs", "stream", "stream_options", "frequency_penalty", "presence_penalty", "logit_bias",
    "user", *ONLY,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ChatRequest(ApiRequest):
    """A request to answer a conversation."""


def read_request(table: dict[str, Any], runs: Sequence[ServedRun]) -> ChatRequest:
    """Return a request with every field checked.

    Raises:
        ApiError: a field is unknown, not supported, or has a wrong value; or the run has no chat template.
        ConfigError: a number of the sampling config is out of range.
        RunError: the run has no checkpoint yet.
    """
    fields = Fields(table, KNOWN)
    check_only(fields, ONLY)
    run = find_run(fields.text("model"), runs)
    chat_template(run)
    log_probs, top = fields.flag("logprobs"), fields.count("top_logprobs", None, 0, MOST_LOG_PROBS)
    if top is not None and not log_probs:
        raise ApiError(400, "top_logprobs: expected only with logprobs: true.", param="top_logprobs")
    return ChatRequest(
        run=run,
        wanted=Wanted(
            prompt="",
            messages=read_messages("messages", fields.take("messages", list, [], f"a list such as {EXAMPLE}")),
            max_tokens=read_max_tokens(fields),
            sampling=read_sampling(fields, temperature=1.0),
            stops=fields.texts("stop", MOST_STOPS, LONGEST_STOP),
            top=top or 0,
        ),
        stream=fields.flag("stream"),
        usage_in_stream=read_stream_options(fields),
        log_probs=log_probs,
    )


def read_max_tokens(fields: Fields) -> int:
    """Return the most tokens of an answer; without a number, as many as there may be.

    Raises:
        ApiError: both names of the field are there, or it is out of range.
    """
    new, old = (fields.count(name, None, 1, MOST_TOKENS) for name in ("max_completion_tokens", "max_tokens"))
    if new and old:
        raise ApiError(
            400, "max_tokens: the older name of max_completion_tokens; send one of them.", param="max_tokens"
        )
    return new or old or MOST_TOKENS


def read_messages(where: str, tables: Sequence[Any]) -> Conversation:
    """Return the messages of a conversation that ends with one of the user.

    Args:
        where: the field, which begins the messages of errors.
        tables: the messages as they came.

    Raises:
        ApiError: there is none or too many, or one of them is wrong; says which.
    """
    if not tables:
        raise ApiError(400, f"{where}: expected at least one, such as {EXAMPLE}.", param=where)
    if len(tables) > MOST_MESSAGES:
        raise ApiError(
            400, f"{where}: expected at most {MOST_MESSAGES:,}, got {len(tables):,}; leave the oldest out.", param=where
        )
    try:
        messages = checked_messages(where, [as_text(where, table) for table in tables], learned=False)
    except DataError as error:
        raise ApiError(400, str(error), param=where) from None
    if messages[-1].role != USER:
        raise ApiError(
            400, f"{where}: the last is of the {messages[-1].role}; expected one of the user, which is answered.",
            param=where,
        )  # fmt: skip
    return messages


def as_text(where: str, table: Any) -> Any:
    """Return a message whose parts of text, where it has a list of them, are one text; without keys that are null.

    Raises:
        ApiError: a key is not supported, or a part is no text.
    """
    if not isinstance(table, dict):
        return table
    table = {key: value for key, value in table.items() if value is not None}
    if unknown := sorted(table.keys() - {"role", "content"}):
        raise ApiError(
            400, f"{where}: {unknown[0][:80]!r} is not supported in a message; expected role and content.",
            param=where, code="unsupported_parameter",
        )  # fmt: skip
    content = table.get("content")
    if not isinstance(content, list):
        return table
    for part in content:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            kind = part.get("type") if isinstance(part, dict) else part
            raise ApiError(
                400, f"{where}: content: expected a text, or parts of the type 'text', got {kind!r:.60}.",
                param=where, code="unsupported_value",
            )  # fmt: skip
    return table | {"content": "".join(part["text"] for part in content)}


# Responses.


def answers(request: ChatRequest) -> Iterator[dict[str, Any]]:
    """Yield the chunks of an answer, the last one with why it ended; runs in the worker's thread."""
    continuation = Continuation(request.run, request.wanted)
    yield chunk(request, continuation, {"role": "assistant", "content": ""})
    for piece in continuation:
        if piece.text or piece.tokens:
            yield chunk(request, continuation, {"content": piece.text}, piece)
    yield chunk(request, continuation, {}, end=True)


def chunk(
    request: ChatRequest,
    continuation: Continuation,
    delta: dict[str, str],
    piece: Piece | None = None,
    end: bool = False,
) -> dict[str, Any]:
    """Return a chunk that adds to the message; at the end also the usage."""
    codec = continuation.loaded.tokenizer
    log_probs = {"content": log_probs_of(codec, piece.tokens if piece else ())} if request.log_probs else None
    choice = {
        "index": 0,
        "delta": delta,
        "logprobs": log_probs,
        "finish_reason": continuation.finish_reason if end else None,
    }
    part = answer_of(request, f"chatcmpl-{request.key}", "chat.completion.chunk", [choice])
    return part | ending(request, continuation) if end else part


def log_probs_of(codec: Codec, tokens: Iterable[ShownToken]) -> list[dict[str, Any]]:
    """Return the log-probabilities of tokens, each with those of the likeliest at its place."""
    return [
        log_prob_of(codec, token.id, token.log_prob)
        | {"top_logprobs": [log_prob_of(codec, *row) for row in with_own(token.top, token.id, token.log_prob)]}
        for token in tokens
        if token.log_prob is not None
    ]


def log_prob_of(codec: Codec, token: int, log_prob: float) -> dict[str, Any]:
    """Return the log-probability of a token."""
    return {"token": spelling(codec, token), "logprob": finite(log_prob), "bytes": list(codec.decode_bytes([token]))}


def joined(chunks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the response that is not a stream: all chunks of an answer in one."""
    choices = [part["choices"][0] for part in chunks]
    content = "".join(choice["delta"].get("content", "") for choice in choices)
    log_probs = None
    if choices[-1]["logprobs"] is not None:
        log_probs = {"content": [row for choice in choices for row in choice["logprobs"]["content"]]}
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": content},
        "logprobs": log_probs,
        "finish_reason": choices[-1]["finish_reason"],
    }
    return chunks[-1] | {"object": "chat.completion", "choices": [choice]}
