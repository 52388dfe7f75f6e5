"""Several texts sampled side by side, whatever the lengths of their prompts.

As much of every prompt as the shortest has is read at once. Then each row gets a token a step: a row whose prompt goes
on gets what stands there, any other what is drawn. So no row holds a blank, every row stands where it would stand
alone, and no part of a model need know that there are others. A row's chance is its own too: row r of a call with seed
s is what the seed s + r gives alone.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import torch

from nanotx.generation.rolling import RollingReading
from nanotx.generation.sampler import Choice, Drawn, NextLogits, Reader, Reading, Sampling


class Step(NamedTuple):
    """One more token of each row."""

    ids: Drawn
    logits: NextLogits  # the model's own, before any knob
    drawn: tuple[int, ...]  # the rows whose token was drawn; those of the others are of their prompts


@runtime_checkable
class Source(Protocol):
    """Texts that are being read, such as a `Reading`."""

    def logits(self) -> NextLogits:
        """Those of the next token of each row."""

    def feed(self, ids: Drawn) -> None:
        """Take in the next token of each row."""


def together(
    model: Reader,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    new: int,
    rolls: bool = False,
    device: torch.device | None = None,
) -> Iterator[Step]:
    """Draw one id after another for each prompt, without end.

    Args:
        model: what gives the logits, in evaluation mode.
        prompts: ids, one at least in each; of long ones the newest `context` are read.
        sampling: how to choose.
        new: how many tokens each text will get.
        rolls: whether the cache rolls beyond the context, as `nanotx.generation.rolling` says.
        device: where the model is; None is the CPU.

    Raises:
        ConfigError: the cache is to roll, and the model's positions forbid it.
    """
    texts = [list(prompt[-model.context :]) for prompt in prompts]
    lengths = [len(text) for text in texts]
    ids = torch.tensor([text[: min(lengths)] for text in texts], device=device)
    reading: Source = Reading(model, ids, new=max(lengths) - min(lengths) + new)
    if rolls:
        reading = RollingReading(model, ids)
    return steps(reading, texts, Choice(sampling, prompts))


def steps(reading: Source, texts: Sequence[Sequence[int]], choice: Choice) -> Iterator[Step]:
    """Go on from texts of which as much was read as the shortest has."""
    at = min(map(len, texts))
    while True:
        with torch.inference_mode():
            logits = reading.logits()
            ids = choice.draw(logits)
            waiting = [row for row, text in enumerate(texts) if at < len(text)]
            for row in waiting:
                ids[row] = texts[row][at]
                begin_anew(choice, row)
        yield Step(ids, logits, tuple(row for row in range(len(texts)) if row not in waiting))
        reading.feed(ids)
        at += 1


def begin_anew(choice: Choice, row: int) -> None:
    """Nothing was drawn yet in this row."""
    choice.generators[row].manual_seed(choice.sampling.seed + row)
    if choice.shaping is not None:
        choice.shaping.drawn[row].clear()
