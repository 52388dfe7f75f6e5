"""Batched generation, for prompts of any lengths, without padding.

As much of every prompt as the shortest has is read at once. Then each row gets a token a step: a row whose prompt goes
on gets what stands there, any other what is drawn. So no row holds a blank, every row stands where it would stand
alone, and no part of a model need know that there are others. A row's chance is its own too: row r of a call with seed
s is what the seed s + r gives alone.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from nanotx.generation.rolling import RollingDecodeState
from nanotx.generation.sampler import DecodeState, LanguageModel, NextIds, NextLogits, Sampler, Sampling


class Step(NamedTuple):
    """The next token of each row."""

    ids: NextIds
    logits: NextLogits  # the model's own, before any logits processor
    drawn: tuple[int, ...]  # rows whose token was sampled; the other rows are still inside their prompts


def generate_batch(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    max_new_tokens: int,
    rolling: bool = False,
    device: torch.device | None = None,
) -> Iterator[Step]:
    """Yield one token per prompt and step, without end.

    Args:
        model: what gives the logits, in evaluation mode.
        prompts: ids, one at least in each; of long ones the newest `context` are read.
        sampling: how to choose.
        max_new_tokens: how many tokens each text will get.
        rolling: whether the cache rolls beyond the context, as `nanotx.generation.rolling` says.
        device: where the model is; None is the CPU.

    Raises:
        ConfigError: the cache is to roll, and the model's positions forbid it.
    """
    texts = [list(prompt[-model.context :]) for prompt in prompts]
    lengths = [len(text) for text in texts]
    ids = torch.tensor([text[: min(lengths)] for text in texts], device=device)
    steps = max(lengths) - min(lengths) + max_new_tokens
    state = RollingDecodeState(model, ids) if rolling else DecodeState(model, ids, max_new_tokens=steps)
    return decode(state, texts, Sampler(sampling, prompts))


def decode(state: DecodeState | RollingDecodeState, texts: Sequence[Sequence[int]], sampler: Sampler) -> Iterator[Step]:
    """Yield steps, from a state that has read every text up to the length of the shortest."""
    at = min(map(len, texts))
    while True:
        with torch.inference_mode():
            logits = state.next_logits()
            ids = sampler.draw(logits)
            waiting = [row for row, text in enumerate(texts) if at < len(text)]
            for row in waiting:
                ids[row] = texts[row][at]
                reset_row(sampler, row)
        yield Step(ids, logits, tuple(row for row in range(len(texts)) if row not in waiting))
        state.append(ids)
        at += 1


def reset_row(sampler: Sampler, row: int) -> None:
    """Reset a row's random generator and token counts, as if nothing had been sampled in it."""
    sampler.generators[row].manual_seed(sampler.sampling.seed + row)
    if sampler.processors is not None:
        sampler.processors.drawn[row].clear()
