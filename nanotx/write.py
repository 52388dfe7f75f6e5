"""From text to text: a prompt is encoded, continued token by token, and decoded as it comes."""

from collections.abc import Iterator, Sequence
from itertools import islice

import torch
from einops import rearrange

from nanotx.sample import Drawn, Reader, Sampling, check_length, generate
from nanotx.tokenizers import Codec, StreamingDecoder


def write(
    model: Reader,
    codec: Codec,
    prompt: str,
    max_new_tokens: int,
    sampling: Sampling,
    stops: Sequence[str] = (),
    device: torch.device | None = None,
) -> Iterator[str]:
    """The continuation of a prompt, piece by piece as it is written.

    Args:
        model: what writes, in evaluation mode.
        codec: its tokenizer.
        prompt: what it goes on from; where it is empty, the start id stands in for it.
        max_new_tokens: how many tokens to write at most.
        sampling: how each is chosen.
        stops: the text ends before the first of these that is written.
        device: where the model is; None is the CPU.

    Raises:
        ConfigError: there cannot be so many tokens, or a stop is empty.
        TextError: the tokenizer cannot hold the prompt.
    """
    check_length(max_new_tokens)
    ids = rearrange(torch.tensor(prompt_ids(codec, prompt), device=device), "t -> 1 t")
    drawn = generate(model, ids, sampling.without(codec.undefined_ids), new=max_new_tokens)
    pieces = spelled(islice(drawn, max_new_tokens), codec)
    if stops:
        from nanotx.stops import until  # most texts go on to their end

        return until(pieces, stops)
    return pieces


def prompt_ids(codec: Codec, prompt: str) -> list[int]:
    """What the model reads first."""
    return codec.encode(prompt).tolist() or [codec.start]


def spelled(drawn: Iterator[Drawn], codec: Codec) -> Iterator[str]:
    """The text of ids, as they come."""
    decoder = StreamingDecoder(codec)
    for ids in drawn:
        yield decoder.push(int(ids[0]))
    yield decoder.end()
