"""The completions API, `/v1/models` and `/v1/completions`, as the OpenAI client speaks it.

What is not supported is refused: a field that is ignored would give an answer to another question.
Source: https://platform.openai.com/docs/api-reference/completions
"""

import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nanotx.config.schema import INT_LIMIT
from nanotx.generation import Sampling
from nanotx.serve.continuation import Continuation, Piece, ShownToken, Top, Wanted
from nanotx.serve.errors import ApiError
from nanotx.serve.requests import Fields, as_float
from nanotx.serve.run import ServedRun, finite, spelled_table, spelling

MOST_TOKENS = 4096
"""Most tokens of a completion."""

MOST_LOG_PROBS = 20
"""Most alternatives that a request may ask for at each token."""

MOST_STOPS, LONGEST_STOP = 16, 1000
"""Most stop sequences, and the most characters in each."""

ONLY: dict[str, int | str] = {"n": 1, "best_of": 1, "suffix": ""}
"""Fields of which only one value is supported."""

OWN = ("top_k", "min_p")
"""Fields that OpenAI does not have; its client sends them by `extra_body`."""

KNOWN = (
    "model", "prompt", "max_tokens", "temperature", "top_p", *OWN, "seed", "stop", "logprobs", "echo", "stream",
    "stream_options", "frequency_penalty", "presence_penalty", "logit_bias", "user", *ONLY,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ApiRequest:
    """A request for a text."""

    run: ServedRun
    wanted: Wanted
    stream: bool
    usage_in_stream: bool
    log_probs: bool
    key: str = field(default_factory=lambda: secrets.token_hex(12))  # of the id of its answer
    created: int = field(default_factory=lambda: int(time.time()))


@dataclass(frozen=True, kw_only=True)
class CompletionRequest(ApiRequest):
    """A request to complete a text."""

    echo: bool


def read_request(table: dict[str, Any], runs: Sequence[ServedRun]) -> CompletionRequest:
    """Return a request with every field checked.

    Raises:
        ApiError: a field is unknown, not supported, or has a wrong value.
        ConfigError: a number of the sampling config is out of range.
    """
    fields = Fields(table, KNOWN)
    check_only(fields, ONLY)
    log_probs = fields.count("logprobs", None, 0, MOST_LOG_PROBS)
    return CompletionRequest(
        run=find_run(fields.text("model"), runs),
        wanted=Wanted(
            prompt=read_prompt(fields),
            max_tokens=fields.count("max_tokens", 16, 0, MOST_TOKENS) or 0,
            sampling=read_sampling(fields, temperature=1.0),
            stops=fields.texts("stop", MOST_STOPS, LONGEST_STOP),
            top=log_probs or 0,
        ),
        stream=fields.flag("stream"),
        usage_in_stream=read_stream_options(fields),
        echo=fields.flag("echo"),
        log_probs=log_probs is not None,
    )


def check_only(fields: Fields, supported: Mapping[str, int | str]) -> None:
    """Raise ApiError unless fields of which one value is supported have that value, or are missing."""
    for name, value in supported.items():
        if fields.take(name, (int, str), value, f"{value!r}, the only value supported") != value:
            remedy = "send a request for each text" if name in ("n", "best_of") else "leave it out"
            raise ApiError(
                400, f"{name}: only {value!r} is supported; {remedy}.", param=name,
                code="unsupported_value",
            )  # fmt: skip


def find_run(name: str, runs: Sequence[ServedRun]) -> ServedRun:
    """Return the run of a name.

    Raises:
        ApiError: there is none.
    """
    names = [run.name for run in runs]
    if not name:
        raise ApiError(400, f"model: missing; served here: {', '.join(names)}.", param="model")
    if name not in names:
        raise ApiError(
            404, f"model: {name[:80]!r} is not served here; try {' or '.join(names)}.", param="model",
            code="model_not_found",
        )  # fmt: skip
    return runs[names.index(name)]


def read_prompt(fields: Fields) -> str:
    """Return the prompt, which the API also takes as a list of one text."""
    value = fields.take("prompt", (str, list), "", "a text")
    if isinstance(value, list):
        if len(value) != 1 or not isinstance(value[0], str):
            raise ApiError(
                400, "prompt: expected a text; lists of texts or of token ids are not supported, so send a request "
                "for each text.", param="prompt", code="unsupported_value",
            )  # fmt: skip
        return value[0]
    return str(value)


def read_sampling(fields: Fields, temperature: float) -> Sampling:
    """Return the sampling config; without a seed, a new one is drawn.

    Raises:
        ConfigError: a number is out of range.
    """
    return Sampling(
        temperature=fields.number("temperature", temperature),
        top_p=fields.number("top_p", 1.0),
        top_k=fields.count("top_k", None, 1, INT_LIMIT - 1),
        min_p=fields.number("min_p", 0.0),
        frequency_penalty=fields.number("frequency_penalty", 0.0),
        presence_penalty=fields.number("presence_penalty", 0.0),
        bias=read_bias(fields),
        seed=fields.take("seed", int, secrets.randbelow(1 << 31), "a whole number"),
    )


def read_bias(fields: Fields) -> tuple[tuple[int, float], ...]:
    """Return the biases, which the API takes as a table from ids, written as texts, to numbers.

    Raises:
        ApiError: it is no such table.
    """
    table = fields.take("logit_bias", dict, {}, 'an object such as {"13": -100}')
    for token, value in table.items():
        if not (token.isascii() and token.isdecimal() and len(token) < 10) or not isinstance(value, int | float):
            raise ApiError(400, 'logit_bias: expected ids with numbers, such as {"13": -100}.', param="logit_bias")
    return tuple((int(token), as_float("logit_bias", value)) for token, value in table.items())


def read_stream_options(fields: Fields) -> bool:
    """Return whether the usage is wanted at the end of a stream.

    Raises:
        ApiError: there are other options, or no stream.
    """
    options = fields.take("stream_options", dict, None, 'an object such as {"include_usage": true}')
    if options is None:
        return False
    if not fields.flag("stream"):
        raise ApiError(400, "stream_options: expected only with stream: true.", param="stream_options")
    return Fields(options, ("include_usage",)).flag("include_usage")


# Responses.


def answers(request: CompletionRequest) -> Iterator[dict[str, Any]]:
    """Yield the chunks of a completion, the last one with why it ended; runs in the worker's thread."""
    continuation = Continuation(request.run, request.wanted)
    if request.echo:
        tokens = tuple(continuation.prompt_tokens()) if request.log_probs else ()
        yield chunk(request, continuation, [Piece(text=request.wanted.prompt, tokens=tokens)])
    for piece in continuation:
        if piece.text or piece.tokens:
            yield chunk(request, continuation, [piece])
    yield chunk(request, continuation, [], end=True)


def chunk(
    request: CompletionRequest, continuation: Continuation, pieces: Sequence[Piece], end: bool = False
) -> dict[str, Any]:
    """Return a response that holds some pieces; at the end also the usage."""
    tokens = [token for piece in pieces for token in piece.tokens]
    choice = {
        "index": 0,
        "text": "".join(piece.text for piece in pieces),
        "logprobs": log_probs_of(continuation, tokens) if request.log_probs else None,
        "finish_reason": continuation.finish_reason if end else None,
    }
    answer = answer_of(request, f"cmpl-{request.key}", "text_completion", [choice])
    return answer | ending(request, continuation) if end else answer


def answer_of(request: ApiRequest, name: str, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a response, or a chunk of it.

    Args:
        request: that is answered.
        name: id of the response.
        kind: of object.
        choices: its content.
    """
    return {"id": name, "object": kind, "created": request.created, "model": request.run.name, "choices": choices}


def ending(request: ApiRequest, continuation: Continuation) -> dict[str, Any]:
    """Return what the end of a response has besides: the usage, and what only nanotx says."""
    own = {
        "step": continuation.loaded.step,
        "seed": request.wanted.sampling.seed,
        "prompt_tokens_left_out": continuation.left_out,
    }
    return {"usage": usage(continuation), "nanotx": own}


def log_probs_of(continuation: Continuation, tokens: Iterable[ShownToken]) -> dict[str, list[Any]]:
    """Return the log-probabilities of tokens, in four lists of one length."""
    codec, rows = continuation.loaded.tokenizer, list(tokens)
    return {
        "tokens": [spelling(codec, token.id) for token in rows],
        "token_logprobs": [None if token.log_prob is None else finite(token.log_prob) for token in rows],
        "top_logprobs": [
            None if token.log_prob is None else spelled_table(codec, with_own(token.top, token.id, token.log_prob))
            for token in rows
        ],
        "text_offset": [token.offset for token in rows],
    }


def with_own(top: Top, token: int, log_prob: float) -> Top:
    """Return the likeliest tokens with the token itself, which the API adds where it is none of them."""
    return top if any(other == token for other, _ in top) else (*top, (token, log_prob))


def usage(continuation: Continuation) -> dict[str, int]:
    """Return the numbers of tokens; those of a stop sequence were sampled, and count."""
    prompt, sampled = len(continuation.prompt_ids), len(continuation.completion.ids)
    return {"prompt_tokens": prompt, "completion_tokens": sampled, "total_tokens": prompt + sampled}


def joined(chunks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the response that is not a stream: all chunks of a completion in one."""
    choices = [part["choices"][0] for part in chunks]
    choice = choices[-1] | {"text": "".join(part["text"] for part in choices)}
    if choice["logprobs"] is not None:
        choice["logprobs"] = {
            name: [item for part in choices for item in part["logprobs"][name]] for name in choice["logprobs"]
        }
    return chunks[-1] | {"choices": [choice]}


def streamed(request: ApiRequest, part: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a chunk as it is streamed: the usage, where it is wanted, comes in a chunk of its own."""
    numbers = part.pop("usage", None)
    yield part
    if numbers is not None and request.usage_in_stream:
        yield part | {"choices": [], "usage": numbers}


def model_entry(run: ServedRun) -> dict[str, Any]:
    """Return a run as the API lists models."""
    return {"id": run.name, "object": "model", "created": run.created, "owned_by": "nanotx"}
