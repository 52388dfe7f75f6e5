"""From text to text: a prompt is encoded, continued token by token, and decoded as it comes."""

from collections.abc import Iterator

import torch
from einops import rearrange

from nanotx.sample import Reader, Sampling, generate
from nanotx.tokenizers import Codec, StreamingDecoder


def write(
    model: Reader,
    codec: Codec,
    prompt: str,
    max_new_tokens: int,
    sampling: Sampling,
    stop: str = "",
    device: torch.device | None = None,
) -> Iterator[str]:
    """The continuation of a prompt, piece by piece as it is written.

    Args:
        model: what writes, in evaluation mode.
        codec: its tokenizer.
        prompt: what it goes on from; where it is empty, the start id stands in for it.
        max_new_tokens: how many tokens to write at most.
        sampling: how each is chosen.
        stop: the text ends before the first place where this stands; empty for never.
        device: where the model is; None is the CPU.

    Raises:
        TextError: the tokenizer cannot hold the prompt.
    """
    ids = codec.encode(prompt).tolist() or [codec.start]
    drawn = generate(model, rearrange(torch.tensor(ids, device=device), "t -> 1 t"), sampling)
    decoder = StreamingDecoder(codec)
    held = ""  # what may yet turn out to be the beginning of `stop`
    for _ in range(max_new_tokens):
        held += decoder.push(int(next(drawn)))
        if stop and stop in held:
            yield held[: held.index(stop)]
            return
        safe = len(held) - overlap(held, stop)
        if safe:
            yield held[:safe]
            held = held[safe:]
    yield held + decoder.end()


def overlap(text: str, stop: str) -> int:
    """How many of the text's last characters are the beginning of `stop`."""
    return next((n for n in range(min(len(text), len(stop)), 0, -1) if text.endswith(stop[:n])), 0)
