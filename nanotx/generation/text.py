"""From text to text: encode a prompt, continue it token by token, and decode as the tokens come."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

import torch
from einops import rearrange

from nanotx.errors import ConfigError, TextError
from nanotx.generation.sampler import LanguageModel, NextIds, Sampling, check_bias, check_max_new_tokens, next_ids
from nanotx.generation.stop_sequences import until
from nanotx.tokenizers import Codec, StreamingDecoder


def stream_text(
    model: LanguageModel,
    codec: Codec,
    prompt: str,
    max_new_tokens: int,
    sampling: Sampling,
    stops: Sequence[str] = (),
    device: torch.device | None = None,
) -> Iterator[str]:
    """Yield the continuation of a prompt, piece by piece.

    Args:
        model: the model, in evaluation mode.
        codec: its tokenizer.
        prompt: the text to continue; an empty one is replaced by the start id.
        max_new_tokens: the maximal number of tokens to generate.
        sampling: the sampling config.
        stops: stop sequences; the text ends before the first of them.
        device: where the model is; None is the CPU.

    Raises:
        ConfigError: max_new_tokens is out of range, or a stop is empty.
        TextError: the tokenizer cannot hold the prompt.
    """
    check_max_new_tokens(max_new_tokens)
    ids = rearrange(torch.tensor(prompt_ids(codec, prompt), device=device), "t -> 1 t")
    drawn = next_ids(model, ids, sampling.with_banned(codec.undefined_ids), max_new_tokens=max_new_tokens)
    pieces = decode_stream(islice(drawn, max_new_tokens), codec)
    if stops:
        return until(pieces, stops)
    return pieces


def prompt_ids(codec: Codec, prompt: str) -> list[int]:
    """Return the ids of a prompt; an empty prompt is the start id."""
    return codec.encode(prompt).tolist() or [codec.start]


def decode_stream(drawn: Iterator[NextIds], codec: Codec) -> Iterator[str]:
    """Yield the decoded text of a stream of ids."""
    decoder = StreamingDecoder(codec)
    for ids in drawn:
        yield decoder.push(int(ids[0]))
    yield decoder.end()


def token_id(codec: Codec, text: str, field: str) -> int:
    """Return the id of the token with this text, or of the special token with this name.

    Raises:
        ConfigError: the text is not exactly one token.
        TextError: the tokenizer cannot hold the text.
    """
    if text in codec.special_tokens:
        return codec.special_tokens[text]
    try:
        ids = codec.encode(text).tolist()
    except TextError as error:
        raise TextError(f"{field}: {error}") from None
    if len(ids) != 1:
        parts = ", ".join(repr(codec.decode([one])) for one in ids) or "none"
        raise ConfigError(f"{field}: expected the text of one token, got {text!r}, which is {len(ids)}: {parts}.")
    return int(ids[0])


def token_ids(codec: Codec, texts: Iterable[str], field: str) -> tuple[int, ...]:
    """Return the ids of tokens given by their texts."""
    return tuple(token_id(codec, text, field) for text in texts)


def bias_by_id(codec: Codec, values: Mapping[str, float]) -> tuple[tuple[int, float], ...]:
    """Return (id, value) pairs of tokens given by their texts.

    Raises:
        ConfigError: a text is no token, or a value is out of range; says which.
        TextError: the tokenizer cannot hold a text.
    """
    for text, value in values.items():
        check_bias(repr(text), value)
    return tuple((token_id(codec, text, "bias"), value) for text, value in values.items())


def parse_bias(word: str) -> tuple[str, float]:
    """Parse TEXT=NUMBER; the last = separates them.

    Raises:
        ConfigError: it is not of this form.
    """
    text, _, number = word.rpartition("=")
    if text:
        with contextlib.suppress(ValueError):
            return text, float(number)
    raise ConfigError(f"--bias {word}: expected TOKEN=NUMBER such as e=-2.5.")
